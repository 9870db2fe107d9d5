"""Publishing, looking up and pulling, on a folder, an S3 API and nginx; and what goes wrong there."""

import functools
import http.server
import json
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import pytest
import yaml

from places import Nginx, Shared, a_score, nginx, s3_api
from robustprune.cli.main import main
from robustprune.core.errors import UserError
from robustprune.core.execution import Execution
from robustprune.core.files import digest
from robustprune.core.job import run_stage
from robustprune.core.locations import without_credentials
from robustprune.core.record import read_record
from robustprune.core.yaml_files import merge
from robustprune.planning.config import load_config
from robustprune.planning.plan import Plan
from robustprune.scores.store import layout
from robustprune.scores.store.reader import open_store
from robustprune.scores.store.writer import write_store
from robustprune.sharing.commands import list_places, publish, pull, pull_planned, verify_place
from robustprune.sharing.entry import CARD_FILE
from robustprune.sharing.lookup import with_pulls
from robustprune.sharing.places import STORES, Folder, entry_path, open_place
from robustprune.sharing.pull import look_at, pull_store
from tiny import SCORED, plan_of_scores, run_upstream, stage_of

Made = tuple[Plan, str]
Web = tuple[Path, Nginx]


@pytest.fixture(scope="module", autouse=True)
def small_files() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(layout, "CHUNK_ROWS", 64)
        patch.setattr(layout, "SHARD_ROWS", 256)
        yield


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return a_score(tmp_path_factory.mktemp("team-a") / "results")


@pytest.fixture(scope="module")
def s3_variables() -> Iterator[dict[str, str]]:
    with s3_api() as variables:
        yield variables


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Nginx]]:
    root = tmp_path_factory.mktemp("web")
    with nginx(root, tmp_path_factory.mktemp("nginx") / "home") as server:
        yield root, server


@pytest.fixture
def s3(s3_variables: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in s3_variables.items():
        monkeypatch.setenv(name, value)


@pytest.fixture(params=("folder", "s3", "nginx"))
def shared(request: pytest.FixtureRequest, tmp_path: Path) -> Shared:
    """Somewhere to share, empty."""
    if request.param == "folder":
        (tmp_path / "shared").mkdir()
        return Shared(str(tmp_path / "shared"), str(tmp_path / "shared"))
    if request.param == "s3":
        request.getfixturevalue("s3")
        return Shared(*[f"s3://team/{tmp_path.name}"] * 2)
    root, server = request.getfixturevalue("web")
    return Shared(str(root / tmp_path.name), f"{server.url}/{tmp_path.name}")


@pytest.fixture
def place(made: Made, tmp_path: Path) -> str:
    folder = str(tmp_path / "shared")
    publish([directory(made)], folder)
    return folder


def directory(made: Made) -> Path:
    plan, score = made
    return plan.directory(score)


def another_checkout(folder: Path, *places: str) -> Made:
    """A second team's plan, with nothing in its results, that looks scores up."""
    plan = with_pulls(plan_of_scores(folder / "results", "margin", overrides={"shared_stores": list(places)}))
    return plan, stage_of(plan, "scores")


def run_pool(plan: Plan, score: str) -> None:
    pool = plan.upstream(score)[0][1]
    run_upstream(plan, pool)
    run_stage(plan.directory(pool), Execution(device="cpu"))


def test_a_published_score_is_found_while_planning_and_pulled(made: Made, shared: Shared, tmp_path: Path) -> None:
    (line,) = publish([directory(made)], shared.publish)
    assert re.fullmatch(rf"{re.escape(shared.publish)}/stores/{made[1]}: 1,297 rows, 0.0 MiB", line)
    plan, score = another_checkout(tmp_path / "b", shared.read)
    assert score == made[1]
    assert plan.pulls == {score: shared.read}
    assert not any(plan.stages[stage].kind == "models" for stage in plan.needed_for([score]))
    pool = plan.upstream(score)[0][1]
    assert [plan.directory(pool) / "record.json"] == plan.upstream_records(score)
    run_pool(plan, score)
    pull_planned(plan.directory(score) / "spec.json", [shared.read])
    ours, theirs = plan.directory(score), directory(made)
    assert digest(ours / "scores.zarr") == digest(theirs / "scores.zarr")
    ours_record, theirs_record = read_record(ours), read_record(theirs)
    assert ours_record.facts == {"pulled_from": shared.read, **theirs_record.facts}
    assert ours_record.digests["scores.zarr"] == theirs_record.digests["scores.zarr"]
    assert with_pulls(plan, look_up=False).pulls == {score: "an earlier run"}


def test_list_and_verify_and_pull_without_a_plan(made: Made, shared: Shared, tmp_path: Path) -> None:
    publish([directory(made)], shared.publish)
    score = made[1]
    heading, line = list_places([shared.read]).splitlines()
    assert heading == f"{shared.read}: 1 stores"
    assert line.startswith(f"  {score}  1,297 rows, margin (Linf distance, pixel range [0, 1])")
    assert verify_place(shared.read) == f"{shared.read}: {score}: 1,297 rows as published"
    pull(score, [shared.read], tmp_path)
    assert {path.name for path in (tmp_path / score).iterdir()} == {"card.md", "pulled.json", "scores.zarr"}
    assert open_store(tmp_path / score / "scores.zarr").problems() == []


def test_a_pull_takes_away_what_one_from_another_place_left(made: Made, place: str, tmp_path: Path) -> None:
    left = tmp_path / "here" / made[1] / "partial" / "pull-elsewhere"
    left.mkdir(parents=True)
    assert "every checksum right" in pull(made[1], [place], tmp_path / "here")
    assert not left.parent.exists()


def test_a_pull_that_did_not_end_is_looked_up_again(place: str, tmp_path: Path) -> None:
    plan, score = another_checkout(tmp_path / "b", place)
    (plan.directory(score) / "pulled.json").write_text("{}")
    assert with_pulls(replace(plan, pulls={})).pulls == {score: place}
    assert with_pulls(replace(plan, pulls={}), look_up=False).pulls == {}


def test_a_place_that_may_not_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "shared").mkdir()
    denied = Mock(side_effect=PermissionError(13, "Permission denied"))
    monkeypatch.setattr("robustprune.sharing.places.Path.is_file", denied)
    with pytest.raises(UserError, match=r"shared store .*/shared cannot be read: .*Permission denied"):
        Folder(tmp_path / "shared").published({"margin-0123456789"})


def test_the_variable_overrides_the_configured_places(
    made: Made, place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("config.yaml").write_text(yaml.safe_dump(merge(SCORED, {"shared_stores": [place]})))
    monkeypatch.setenv("ROBUSTPRUNE_SHARED_STORES", "[]")
    assert main(["store", "pull", made[1], "--to", "here"]) == 2
    monkeypatch.delenv("ROBUSTPRUNE_SHARED_STORES")
    assert main(["store", "pull", made[1], "--to", "here"]) == 0


def test_a_published_store_is_not_replaced_by_another_of_the_id(made: Made, shared: Shared, tmp_path: Path) -> None:
    publish([directory(made)], shared.publish)
    assert publish([directory(made)], shared.publish)[0].endswith("is there already")

    plan, score = a_score(tmp_path / "c" / "results")
    store = open_store(plan.directory(score) / "scores.zarr")
    columns = {name: store.read(name) for name in store.dtypes}
    columns["margin"][7] += 1
    write_store(store.path, [columns], store.rows, store.attributes)
    with pytest.raises(UserError, match=rf"has another store under {score}, published .* it is not replaced"):
        publish([plan.directory(score)], shared.publish)
    assert verify_place(shared.read).endswith("1,297 rows as published")


def test_the_card_describes_the_score_and_names_no_local_path(made: Made, place: str, tmp_path: Path) -> None:
    card = (Path(place) / STORES / made[1] / CARD_FILE).read_text()
    record = read_record(directory(made))
    for text in (
        "margin of 1,297 images",
        "the high end is easy: a large margin is an easy image",
        "scikit-learn's digits, train; digest ",
        "models/trades-smallcnn-seed0-",
        f"BLAKE3 {'c' * 64}",
        f"- negative: {record.facts['negative']:,}",
        "the licence of the data set digits",
        f"robustprune store pull {made[1]} --from PLACE --to FOLDER",
        '"method": "deepfool"',
        "#####",
    ):
        assert text in card
    assert str(tmp_path) not in card
    assert str(directory(made).parents[3]) not in (Path(place) / entry_path(made[1])).read_text()


def test_a_licence_can_be_given(made: Made, tmp_path: Path) -> None:
    publish([directory(made)], str(tmp_path), licence="ours, CC BY 4.0")
    assert look_at(open_place(str(tmp_path)), made[1]).licence == "ours, CC BY 4.0"


SLOW_PUBLISHER = """
import sys, time
from pathlib import Path
from robustprune.scores.store import layout
from robustprune.sharing import places
from robustprune.sharing.commands import publish

layout.CHUNK_ROWS, layout.SHARD_ROWS = 64, 256
for kind in (places.Folder, places.Bucket):
    def slowly(self, source, path, put=kind.put):
        put(self, source, path)
        print(path, flush=True)
        time.sleep(0.3)
    kind.put = slowly
publish([Path(sys.argv[1])], sys.argv[2])
"""


def test_a_killed_publication_is_invisible_and_can_be_repeated(made: Made, shared: Shared, tmp_path: Path) -> None:
    score = made[1]
    publisher = [sys.executable, "-c", SLOW_PUBLISHER, str(directory(made)), shared.publish]
    process = subprocess.Popen(publisher, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert score in process.stdout.readline()  # a file is there
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    if Path(shared.publish).is_dir():
        assert list(Path(shared.publish).rglob("c/*"))
    assert open_place(shared.publish).published() == set()
    if shared.read == shared.publish:  # a web server shows an index only after a first publication
        assert another_checkout(tmp_path / "b", shared.read)[0].pulls == {}
    publish([directory(made)], shared.publish)
    assert open_place(shared.read).published() == {score}
    assert verify_place(shared.read).endswith("1,297 rows as published")


def test_a_publication_killed_before_the_index_is_in_it_once_repeated(
    made: Made, shared: Shared, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as killed, pytest.raises(KeyboardInterrupt):
        killed.setattr("robustprune.sharing.publish.write_index", Mock(side_effect=KeyboardInterrupt))
        publish([directory(made)], shared.publish)
    assert publish([directory(made)], shared.publish)[0].endswith("is there already")
    assert open_place(shared.read).published() == {made[1]}
    assert b"made from" in open_place(shared.read).read(f"{STORES}/{made[1]}/{CARD_FILE}", 2**20)


def test_two_publications_at_once_of_the_same_store_are_one(made: Made, shared: Shared) -> None:
    with ThreadPoolExecutor(3) as threads:
        list(threads.map(publish, [[directory(made)]] * 3, [shared.publish] * 3))
    assert open_place(shared.read).published() == {made[1]}
    assert verify_place(shared.read).endswith("1,297 rows as published")


def test_a_broken_pull_goes_on_with_the_bytes_that_are_missing(
    made: Made, shared: Shared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish([directory(made)], shared.publish)
    place = open_place(shared.read)
    pull_it = functools.partial(pull_store, place, look_at(place, made[1]), tmp_path, advance=lambda count: None)
    path = pull_it()
    whole = digest(path)
    kept, half, spoilt = (path / f"margin/c/{number}" for number in range(3))
    half.with_name("1.part").write_bytes(half.read_bytes()[:500])
    spoilt.with_name("2.part").write_bytes(b"of another file" * 10)
    half.unlink()
    spoilt.unlink()
    before = kept.stat().st_mtime_ns
    fetched: list[tuple[str, int]] = []
    original = type(place).fetch

    def fetch(self: object, name: str, target: Path, size: int) -> None:
        fetched.append((target.name, target.stat().st_size if target.exists() else 0))
        original(place, name, target, size)

    monkeypatch.setattr(type(place), "fetch", fetch)
    assert pull_it() == path
    assert digest(path) == whole
    assert kept.stat().st_mtime_ns == before
    assert sorted(fetched) == [("1.part", 500), ("2.part", 0), ("2.part", 150)]


def test_nginx_is_asked_for_the_missing_bytes_alone(made: Made, web: Web, tmp_path: Path) -> None:
    root, server = web
    publish([directory(made)], str(root / "resume"))
    place = open_place(f"{server.url}/resume")
    name = next((root / "resume").rglob("margin/c/1"))
    target = tmp_path / "file"
    target.write_bytes(name.read_bytes()[:1000])
    place.fetch(str(name.relative_to(root / "resume")), target, name.stat().st_size)
    assert target.read_bytes() == name.read_bytes()
    (request,) = requests_below(server, "/resume", count=1)
    assert request.endswith(f"margin/c/1 206 {name.stat().st_size - 1000}")


def test_planning_asks_for_ids_and_nothing_else(made: Made, web: Web, tmp_path: Path) -> None:
    root, server = web
    publish([directory(made)], str(root / "ids"))
    another_checkout(tmp_path, f"{server.url}/ids")
    assert [request.split()[1] for request in requests_below(server, "/ids", count=2)] == ["/ids/index.json"] * 2


def requests_below(server: Nginx, path: str, *, count: int) -> list[str]:
    """What nginx wrote down of requests below a path: it does so a little after it answers."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        lines = [line for line in server.log.read_text().splitlines() if f" {path}/" in line]
        if len(lines) >= count:
            return lines
        time.sleep(0.05)
    raise AssertionError(f"nginx has not written down {count} requests below {path}")


@pytest.fixture
def pythons_server(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    root = tmp_path / "www"
    root.mkdir()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=root)) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield root, f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def test_a_server_that_ignores_ranges_is_refused(made: Made, pythons_server: tuple[Path, str], tmp_path: Path) -> None:
    root, url = pythons_server
    publish([directory(made)], str(root))
    with pytest.raises(UserError, match=rf"{url} ignores range requests, so .* serve the folder by nginx"):
        another_checkout(tmp_path / "b", url)
    with pytest.raises(UserError, match="ignores range requests"):
        pull(made[1], [url], tmp_path / "here")
    part = tmp_path / "part"
    part.write_bytes(b"x")
    with pytest.raises(UserError, match="ignores range requests"):
        open_place(url).fetch("index.json", part, 100)
    assert part.read_bytes() == b"x"


def test_the_first_place_in_order_counts_and_a_score_that_is_here_is_not_looked_up(made: Made, tmp_path: Path) -> None:
    first, second = (str(tmp_path / name) for name in ("first", "second"))
    Path(first).mkdir()
    for place in (second, first):
        publish([directory(made)], place)
        assert another_checkout(tmp_path / "b", first, second)[0].pulls == {made[1]: place}
    config = load_config(merge(SCORED, {"shared_stores": [first]}))
    assert with_pulls(replace(made[0], config=config)).pulls == {}


@pytest.mark.usefixtures("s3")
@pytest.mark.parametrize(
    ("location", "says"),
    [
        ("nowhere", "shared store nowhere: .*no such folder"),
        ("http://127.0.0.1:9/x", r"http://127\.0\.0\.1:9/x/index\.json: .*shared_stores"),
        ("s3://no-such-bucket/x", r"s3://no-such-bucket/x/stores: .*NoSuchBucket|404"),
    ],
)
def test_a_place_that_cannot_be_reached_stops_the_plan(location: str, says: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=says):
        another_checkout(tmp_path, location)


@pytest.mark.parametrize(
    "location", ["http://example.org/stores", "ftp://example.org/x", "s3://key:secret@bucket/x", "https://", ""]
)
def test_other_locations_are_refused_in_the_config_without_their_credentials(location: str) -> None:
    with pytest.raises(UserError, match=r"config.yaml: shared_stores\.0 = .*should be a folder, s3://") as error:
        load_config(merge(SCORED, {"shared_stores": [location]}))
    assert "secret" not in str(error.value)


def test_a_web_server_cannot_be_published_to(made: Made) -> None:
    with pytest.raises(UserError, match=r"publish = 'https://example\.org': can only be read"):
        load_config(merge(SCORED, {"publish": "https://example.org"}))
    with pytest.raises(UserError, match=r"https://example\.org can only be read; publish to a folder or to s3://"):
        publish([directory(made)], "https://me:secret@example.org")


def test_a_store_of_other_images_is_refused_before_fetching(made: Made, place: str, tmp_path: Path) -> None:
    file = Path(place) / entry_path(made[1])
    file.write_text(json.dumps({**json.loads(file.read_text()), "pool_digest": "b" * 64}))
    plan, score = another_checkout(tmp_path / "b", place)
    run_pool(plan, score)
    with pytest.raises(UserError, match=rf"{score} from .* {'b' * 64}.* digits-train-"):
        pull_planned(plan.directory(score) / "spec.json", [place])
    assert not list(plan.directory(score).rglob("zarr.json"))


def test_only_complete_scores_are_published(made: Made, tmp_path: Path) -> None:
    plan, score = made
    pool = plan.stages[score].upstream[0][1]
    with pytest.raises(UserError, match="is of kind pools, but only scores are shared"):
        publish([plan.directory(pool)], str(tmp_path))
    other = plan_of_scores(tmp_path / "results", "loss")
    with pytest.raises(UserError, match=r"is not complete: it has no record.json"):
        publish([other.directory(stage_of(other, "scores"))], str(tmp_path))


def test_a_damaged_store_is_not_published(tmp_path: Path) -> None:
    plan, score = a_score(tmp_path / "results")
    file = plan.directory(score) / "scores.zarr" / "margin" / "c" / "1"
    content = bytearray(file.read_bytes())
    content[50] ^= 1
    file.write_bytes(content)
    with pytest.raises(UserError, match=r"margin/c/1 is damaged: .*; nothing is published"):
        publish([plan.directory(score)], str(tmp_path / "shared"))
    assert Folder(tmp_path / "shared").published() == set()


def test_credentials_work_and_appear_nowhere(
    made: Made, web: Web, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root, server = web
    publish([directory(made)], str(root / "secret"))
    host = server.url.removeprefix("http://")
    location = f"http://me:pass@{host}/private/secret?sig=abcdef0123"
    with pytest.raises(UserError, match="401") as error:
        list_places([location.replace("pass", "wrong")])
    assert "wrong" not in str(error.value)
    assert "abcdef" not in str(error.value)
    plan, score = another_checkout(tmp_path / "b", location)
    assert plan.pulls == {score: f"{server.url}/private/secret"}
    run_pool(plan, score)
    with caplog.at_level("INFO"):
        pull_planned(plan.directory(score) / "spec.json", [location])
    written = [path.read_bytes().decode("latin-1") for path in plan.directory(score).rglob("*") if path.is_file()]
    for text in (*written, caplog.text, list_places([location])):
        assert "pass" not in text
        assert "sig=abcdef0123" not in text
    assert f"pulling from {server.url}/private/secret" in caplog.text


@pytest.mark.usefixtures("s3")
def test_a_refused_key_is_not_quoted() -> None:
    assert without_credentials("the key TESTKEYID with test-secret-key") == "the key *** with ***"
    text = without_credentials("GET https://u:p@ss/w@host/a?X-Amz-Signature=123&b=4 failed, https://host/b#c, 'x'")
    assert text == "GET https://***@host/a?*** failed, https://host/b?*** 'x'"


def test_the_command_line(made: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config, team = str(tmp_path / "config.yaml"), str(tmp_path / "team")
    Path(config).write_text(yaml.safe_dump(merge(SCORED, {"publish": team, "shared_stores": [team]})))

    def store(*arguments: str) -> int:
        return main(["store", *arguments])

    assert store("publish", str(directory(made)), "--configfile", config) == 0
    assert store("list", "--configfile", config) == 0
    assert made[1] in capsys.readouterr().out
    assert store("pull", made[1], "--from", team, "--to", str(tmp_path / "x")) == 0
    assert store("pull", made[1], "--to", str(tmp_path / "y"), "--configfile", config) == 0
    assert store("verify", team) == 0
    assert "as published" in capsys.readouterr().out
    for unknown in ("margin-0123456789", "../../etc"):
        assert store("pull", unknown, "--to", str(tmp_path / "z"), "--configfile", config) == 2
    assert store("pull", made[1], "--configfile", config) == 2
