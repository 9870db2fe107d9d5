"""A checkout to run the workflow in, as a user would after cloning."""

import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import yaml

from robustprune.core.yaml_files import merge
from tiny import TINY

ROOT = Path(__file__).parents[1]
PARTS = ("Snakefile", "config.yaml", "profiles", "slurm", "workflow")


class Checkout:
    """A copy of the workflow in a folder, with the tiny configuration.

    Args:
        folder: an empty one.
        only: the one table that is wanted, e.g. ``puma.table1``; the others, which each start of Snakemake would plan,
            are left out.
    """

    def __init__(self, folder: Path, *, only: str | None = None) -> None:
        self.folder = folder
        for part in PARTS:
            source = ROOT / part
            copy = shutil.copytree if source.is_dir() else shutil.copy
            copy(source, folder / part)
        if only is not None:
            self._keep(*only.split("."))
        # Without the path of a package: a checkout runs its own, whichever is installed.
        self.environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        self.configure({})

    def _keep(self, paper: str, table: str) -> None:
        kept = self.file(f"workflow/experiments/{paper}.yaml")
        for path in kept.parent.glob("*.yaml"):
            if path != kept:
                path.unlink()
        experiments = yaml.safe_load(kept.read_text())
        experiments["tables"] = {table: experiments["tables"][table]}
        experiments.pop("figures", None)
        kept.write_text(yaml.safe_dump(experiments))

    def configure(self, overrides: dict[str, Any]) -> None:
        """Write config.yaml: the tiny configuration with ``overrides``."""
        (self.folder / "config.yaml").write_text(yaml.safe_dump(merge(TINY, overrides)))

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "snakemake", *arguments]

    def snakemake(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run snakemake to its end and return what it printed, on one stream."""
        done = subprocess.run(
            self.command(*arguments),
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert not check or done.returncode == 0, done.stdout
        return done

    def fails(self, *arguments: str) -> str:
        """What snakemake printed when it failed, as it must."""
        done = self.snakemake(*arguments, check=False)
        assert done.returncode != 0
        return done.stdout

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        """Start snakemake as the leader of a process group."""
        null = subprocess.DEVNULL
        command = self.command(*arguments)
        return subprocess.Popen(
            command, cwd=self.folder, env=self.environment, stdout=null, stderr=null, start_new_session=True
        )

    def jobs(self, *arguments: str) -> Counter[str]:
        """How many jobs of each rule a run of these arguments would do."""
        return rules_in(self.snakemake("-n", *arguments).stdout)

    def file(self, path: str) -> Path:
        return self.folder / path


def rules_in(output: str) -> Counter[str]:
    """The jobs of each rule in the table that Snakemake prints before it starts."""
    _, found, rest = output.partition("Job stats:")
    if not found:
        return Counter()
    rows = [line.split() for line in rest.split("\n\n")[0].splitlines()]
    return Counter({row[0]: int(row[1]) for row in rows if len(row) == 2 and row[1].isdigit() and row[0] != "total"})
