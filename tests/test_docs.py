"""Every command in README and docs is run, or is one of those that another test runs."""

import re
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from robustprune.cli.main import main
from robustprune.core.yaml_files import merge
from robustprune.experiments.row import Row
from robustprune.planning.config import Config
from test_pools import everything, planned

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]

ELSEWHERE = {
    "make table1": "the workflow tests run its snakemake command, and CI its installation",
    "make test": "this is it",
    "pytest -m nightly": "it is a test itself",
    "snakemake results/kaufmann_v2/table1.csv results/kaufmann_v2/figure8.csv": "test_every_table.py, nightly",
    "python benchmarks/extrapolation.py --threads 1 --targets 4096": "test_neighbours.py, with fewer vectors",
    "pip install -e .": "the Makefile does it",
    "snakemake results/table1.csv": "test_workflow.py",
    "snakemake results/effect.csv": "the same rules as table1.csv; the planning of its rows is tested below",
    "snakemake results/strategies.csv": "the same",
    "python benchmarks/generation.py --mnist data": "test_benchmarks.py, with a few steps",
    "snakemake results/quality.csv": "test_quality.py runs its stages, test_workflow.py plans it",
    "robustprune show results/digits/manifests/A results/digits/manifests/B": "test_pruning.py",
    "robustprune show results/<preset>/pools/A results/<preset>/pools/B": "test_subpools.py",
    "robustprune run results/cifar10/models/A/spec.json --processes 4": "test_parallel.py, with 2",
    "snakemake -n --config preset=mnist": "test_every_table.py",
    "snakemake -n --config preset=cifar10": "test_every_table.py",
    "snakemake -n --config preset=imagenet100": "test_workflow.py, with a folder of one synset",
    "snakemake results/scores.csv": "test_scores.py makes every one of its scores, test_workflow.py plans it",
    "snakemake --profile slurm results/table1.csv": "test_slurm.py",
    **{
        f"python benchmarks/training.py {what}": "test_benchmarks.py, with smaller cases"
        for what in (
            *("step", "data", "precision", "rs_fgsm", "seeds", "seeds --device cuda"),
            "network --device cuda --sides plain float32 bfloat16",
            "network --device cuda --network fast_cnn --batch-sizes 512 --rounds 20 \\",
        )
    },
    "python benchmarks/ingest.py": "test_benchmarks.py, with fewer images",
    "python benchmarks/manifest.py": "test_benchmarks.py, with fewer margins",
    "python benchmarks/pools.py views": "test_benchmarks.py, with fewer images",
    "python benchmarks/pools.py encoded 1536": "test_benchmarks.py, with fewer images",
    "python benchmarks/tables.py": "test_benchmarks.py, with one table",
    "python benchmarks/store.py": "test_benchmarks.py, with fewer scores",
    **{
        f"python benchmarks/margins.py {what}": "test_benchmarks.py, with fewer images"
        for what in ("mnist", "resnet --images 256 --rounds 1", "classes --images 32 --rounds 1", "scale")
    },
    "snakemake -c2 results/puma/figure{1,2,3,4}.svg": "test_perceptron.py, one of them, with fewer students",
    "snakemake -c2 results/puma/phase_map.svg": "the same rules; test_perceptron.py draws it",
    "snakemake results/puma/figure9.svg": "test_figures.py, nightly, at the smallest scale",
    "snakemake results/puma/figure{5,6,7,8}.svg": "the same",
    "snakemake results/nieth/figure{1,2,3,4,5}.svg": "the same",
    "snakemake -c2 results/kaufmann_v2/feature_model.svg": "test_feature_model.py draws it, with fewer points",
    "snakemake -c2 results/kaufmann_v2/figure1.svg results/kaufmann_v1/figure6.svg": "test_clouds.py, the same",
    "snakemake -c2 results/kaufmann_v2/figure{2,6}.svg results/kaufmann_v1/figure8.svg": "test_figures_of_images.py",
    "snakemake -c2 results/kaufmann_v2/figure{3,4,5}.svg results/kaufmann_v1/figure{1,2,3,4,5,7}.svg": "the same",
    "snakemake results/report.html": "test_workflow.py",
    "snakemake results/report.html --config 'report={shows: [table1.csv, \"puma/*\"]}'": "the same rules; planned in "
    "test_report.py",
    "snakemake results/table1.csv --report report.zip": "test_workflow.py",
    "robustprune run results/<preset>/<kind>/<id>/spec.json": "test_restart.py",
    "robustprune run results/<preset>/scores/<id> --rows 0:1048576": "test_parts.py, with fewer rows",
    "robustprune run results/<preset>/evaluations/<id> --rows 0:2500": "test_evaluation.py, with fewer rows",
    "robustprune plan results/table1.csv --decide": "test_cli.py, of a table that is there",
    "robustprune store verify results/<preset>/scores/<id>": "test_parts.py",
    **{
        f"robustprune store {action}": "test_sharing.py, with other places"
        for action in (
            "publish results/<preset>/scores/<id>",
            "publish results/<preset>/scores/<id> --to s3://team/robustprune",
            "list /team/robustprune",
            "pull margin-linf-digits-train-0123456789 --from /team/robustprune --to shared",
            "verify /team/robustprune",
        )
    },
    "snakemake results/<preset>/scores/<id>/record.json": "test_workflow.py makes one anew",
    "python benchmarks/sharing.py": "test_benchmarks.py, with fewer rows",
    "robustprune calibrate": "test_costs.py, in less time",
    "python benchmarks/evaluation.py autoattack": "test_benchmarks.py, with fewer images",
}


def commands(page: Path) -> list[str]:
    """The indented lines of a page that begin with a program of ours."""
    lines = re.findall(r"^    ((?:make|pip|snakemake|robustprune|python|pytest) .*)$", page.read_text(), re.MULTILINE)
    return [line.strip() for line in lines]


ALL = {command for page in PAGES for command in commands(page)}


def test_the_pages_have_commands() -> None:
    assert len(ALL) >= 8
    assert set(ELSEWHERE) <= ALL


@pytest.mark.parametrize("command", sorted(ALL - set(ELSEWHERE)))
def test_a_command_works(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    program, *arguments = shlex.split(command, comments=True)
    assert program == "robustprune", f"nothing runs '{command}'"
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.yaml").write_text((ROOT / "config.yaml").read_text())
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "table1.csv").write_text("method,accuracy_mean\nPUMA,90.0\n")
    assert main(arguments) == 0
    assert capsys.readouterr().out


def test_what_tests_a_command_elsewhere_is_told_and_there() -> None:
    assert [command for command, where in ELSEWHERE.items() if not where] == []
    files = re.findall(r"test_\w+\.py", " ".join(ELSEWHERE.values()))
    assert len(files) > 20
    assert [file for file in files if not (ROOT / "tests" / file).is_file()] == []


def test_the_make_targets_of_the_readme_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    targets = re.findall(r"(?:^    |`)make ([a-z0-9]+)", "\n".join(page.read_text() for page in PAGES), re.MULTILINE)
    assert len(targets) >= 2
    assert all(re.search(rf"^{target}:", makefile, re.MULTILINE) for target in targets)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_and_paths_lead_somewhere(page: Path) -> None:
    text = page.read_text()
    links = re.findall(r"\]\((?!http)([^)#]+)", text)
    paths = re.findall(r"`((?:workflow|envs|slurm|profiles|tests|docs|benchmarks)/[\w./-]+)`", text)
    assert [link for link in links if not (page.parent / link).exists()] == []
    assert [path for path in paths if not (ROOT / path).exists()] == []


def test_what_the_code_cites_of_the_papers_is_on_their_page() -> None:
    told = set(re.findall(r"^- \*\*([PKN]\d+)\*\*", (ROOT / "docs" / "papers.md").read_text(), re.MULTILINE))
    files = [path for folder in ("workflow", "docs") for path in (ROOT / folder).rglob("*") if path.suffix in CITING]
    lists = [found for path in files for found in re.findall(rf"papers\.md\)?, ({CITED})", path.read_text())]
    cited = {number for found in lists for number in re.findall(r"[PKN]\d+", found)}
    assert len(cited) > 20
    assert cited <= told


CITING = {".py", ".yaml", ".md"}
CITED = r"[PKN]\d+(?:(?:, |-)[PKN]\d+)*"


def examples(language: str, *pages: str) -> list[str]:
    text = "\n".join((ROOT / "docs" / page).read_text() for page in pages or ("data.md", "extending.md"))
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def test_yaml_examples_are_valid_config_and_rows() -> None:
    blocks = [yaml.safe_load(block) for block in examples("yaml")]
    preset = yaml.safe_load((ROOT / "workflow" / "presets" / "cifar10.yaml").read_text())
    configs = [
        Config.model_validate(merge(preset, {"preset": "cifar10", **block}))
        for block in blocks
        if isinstance(block, dict)
    ]
    assert "mine" in {config.data.name for config in configs}
    assert "theirs" in {config.margin_model for config in configs}
    rows = [Row.model_validate(row) for block in blocks if isinstance(block, list) for row in block]
    assert {row.checkpoint for row in rows} == {None, "theirs"}


def test_the_examples_of_sharing_are_valid_config_and_rows() -> None:
    preset = yaml.safe_load((ROOT / "workflow" / "presets" / "cifar10.yaml").read_text())
    blocks = [yaml.safe_load(block) for block in examples("yaml", "sharing.md")]
    for block in blocks[:2]:
        Config.model_validate(merge(preset, {"preset": "cifar10", **block}))
    (row,) = (Row.model_validate(row) for row in blocks[2])
    assert row.imported in blocks[1]["imported"]


def test_the_example_that_shares_generated_images_writes_what_can_be_read(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (source,) = (block for block in examples("python", "sharing.md") if "np.savez" in block)
    pool = tmp_path / re.findall(r'pool = "(.*)"', source)[0]
    pool.mkdir(parents=True)
    images = np.arange(2 * 3 * 4 * 4, dtype=np.uint8).reshape(2, 3, 4, 4)
    np.save(pool / "images.npy", images)
    np.save(pool / "labels.npy", np.array([1, 0], np.int16))
    monkeypatch.chdir(tmp_path)
    exec(source, {})
    Path("train.npz").write_bytes(Path("generated.npz").read_bytes())
    read, labels = everything(planned("npz:.", shape=(3, 4, 4)))
    assert np.array_equal(read, images)
    assert labels.tolist() == [1, 0]


def test_the_example_of_an_architecture_is_one() -> None:
    source = next(block for block in examples("python") if "def build(" in block)
    module: dict[str, Any] = {}
    exec(source, module)
    assert module["build"]((3, 8, 8), 7)(torch.zeros(2, 3, 8, 8)).shape == (2, 7)
