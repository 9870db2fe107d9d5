"""Places for shared stores that tests start: a folder, an S3 API over HTTP, nginx; and a score stage to share."""

import os
import shutil
import socket
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from processes import wait_until
from robustprune.core.execution import Execution
from robustprune.core.job import Job, run_stage
from robustprune.core.record import make_record
from robustprune.core.rows import Columns
from robustprune.images.pool import open_pool
from robustprune.planning.plan import Plan
from robustprune.scores.margin import MarginStage
from robustprune.scores.score import Meaning
from robustprune.scores.score_files import publish_score
from tiny import plan_of_scores, run_upstream, stage_of

MEANING = Meaning("margin", "Linf distance, pixel range [0, 1]", "high", "a large margin is an easy image")


@dataclass(frozen=True)
class Shared:
    """Where a test publishes, and where it reads: the same but for a web server."""

    publish: str
    read: str


def a_score(results: Path) -> tuple[Plan, str]:
    """A complete stage of margins drawn at random, of the digits; and the plan that it belongs to."""
    plan = plan_of_scores(results, "margin")
    score = stage_of(plan, "scores")
    spec = plan.stages[score]
    assert isinstance(spec, MarginStage)
    run_upstream(plan, spec.pool)
    run_stage(plan.directory(spec.pool), Execution(device="cpu"))
    job = Job(plan.directory(score), Execution(device="cpu"), threads=1, live=False)
    job.partial.mkdir(exist_ok=True)
    pool = open_pool(job.upstream("pools", spec.pool))
    source = np.random.default_rng(0)
    columns: Columns = {
        "margin": source.normal(size=len(pool)).astype(np.float32),
        "prediction": source.integers(0, 10, len(pool)).astype(np.int16),
        "converged": np.ones(len(pool), bool),
    }
    facts = publish_score(job, spec, [columns], MEANING, pool, {"model_digest": "c" * 64})
    record = make_record(score, job.outputs, seconds=1.0, device="cpu", peak_gpu_memory_mb=0.0, facts=facts, known={})
    record.write(job.directory)
    return plan, score


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


@contextmanager
def s3_api() -> Iterator[dict[str, str]]:
    """An S3 API with a bucket ``team``; yields the variables that lead there."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    endpoint = f"http://{host}:{port}"
    urllib.request.urlopen(urllib.request.Request(f"{endpoint}/team", method="PUT")).close()
    yield {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ALLOW_HTTP": "true",
        "AWS_ACCESS_KEY_ID": "TESTKEYID",
        "AWS_SECRET_ACCESS_KEY": "test-secret-key",
        "AWS_REGION": "us-east-1",
    }
    server.stop()


NGINX = """
{user}
worker_processes 1;
pid {home}/pid;
error_log {home}/error.log;
events {{}}
http {{
    log_format bytes '$request_method $uri $status $body_bytes_sent';
    access_log {home}/access.log bytes;
    client_body_temp_path {home}/t1; proxy_temp_path {home}/t2; fastcgi_temp_path {home}/t3;
    uwsgi_temp_path {home}/t4; scgi_temp_path {home}/t5;
    server {{
        listen 127.0.0.1:{port};
        root {root};
        location /private/ {{ alias {root}/; auth_basic "team"; auth_basic_user_file {home}/users; }}
    }}
}}
"""


@dataclass(frozen=True)
class Nginx:
    """A running server: its URL and what it wrote down of each request."""

    url: str
    log: Path


@contextmanager
def nginx(root: Path, home: Path) -> Iterator[Nginx]:
    """Nginx showing a folder, and under /private/ to user ``me`` with the password ``pass``."""
    program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if program is None:
        pytest.skip("nginx is not installed (Debian: apt-get install nginx-light)")
    port = free_port()
    home.mkdir()
    (home / "users").write_text("me:{PLAIN}pass\n")
    user = "user root;" if os.getuid() == 0 else ""  # else its workers could not look into the tests' folders
    (home / "conf").write_text(NGINX.format(user=user, home=home, root=root, port=port))
    process = subprocess.Popen([program, "-p", home, "-c", home / "conf", "-g", "daemon off;"])
    try:
        wait_until(lambda: listens(port), process, 30)
        yield Nginx(f"http://127.0.0.1:{port}", home / "access.log")
    finally:
        process.terminate()
        process.wait()


def listens(port: int) -> bool:
    with socket.socket() as one:
        return one.connect_ex(("127.0.0.1", port)) == 0
