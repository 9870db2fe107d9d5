"""Results that nobody measured, in the places where tables look for them: to make every table without a training."""

import json
import random
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from robustprune.core.job import Job
from robustprune.core.paths import CAPTION_FILE, FIGURE_DATA_FILE, FIGURE_FILE
from robustprune.core.record import make_record
from robustprune.core.stage import Stage
from robustprune.evaluation.robustness import EvaluationStage
from robustprune.experiments.tables.row_specs import RunSpec
from robustprune.planning.plan import Plan

EPOCHS = 20
TRAINED: dict[str, Any] = {"training_seconds": 10.0, "images_kept": 4000, "steps": 100}


def summary(clean: float, pgd: float, autoattack: float) -> dict[str, dict[str, float]]:
    return {
        "clean": {"accuracy": clean, "images": 500},
        "cw": {"accuracy": pgd, "images": 500},
        "autoattack": {"accuracy": autoattack, "images": 100},
    }


def by_attack(found: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Split what several attacks found of a model into an evaluation each, all with the clean accuracy."""
    attacked = [attack for attack in found if attack != "clean"]
    for attack in ["clean", *attacked]:
        images = found[attack]["images"]
        yield attack, {"clean": {**found["clean"], "images": images}, attack: found[attack]}


def put_evaluation(directory: Path, summary: Mapping[str, Any]) -> None:
    """Write a summary and the outcomes that it sums up: the first images are right."""
    (directory / "summary.json").write_text(json.dumps(summary))
    images = next(iter(summary.values()))["images"]
    outcomes = {attack: np.arange(images) < round(found["accuracy"] * images) for attack, found in summary.items()}
    pd.DataFrame(outcomes).to_parquet(directory / "outcome.parquet")


def write_record(stage: Path, facts: Mapping[str, Any], seconds: float = 1) -> None:
    """Write the record of a stage in whose directory all is in place."""
    how: dict[str, Any] = {"device": "cpu", "peak_gpu_memory_mb": 0, "known": {}}
    make_record(stage.name, [], facts=dict(facts), seconds=seconds, **how).write(stage)


def read_figure(directory: Path) -> tuple[str, pd.DataFrame, str]:
    """The picture, its data and its caption."""
    picture, caption = ((directory / name).read_text() for name in (FIGURE_FILE, CAPTION_FILE))
    return picture, pd.read_csv(directory / FIGURE_DATA_FILE), caption


class Results:
    """Stages that a table or figure reads, put in place by hand."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.made = 0

    def run(
        self,
        seed: int,
        evaluation: Mapping[str, Any] | None = None,
        training: Mapping[str, Any] | None = None,
        history: Mapping[str, Any] | None = None,
    ) -> RunSpec:
        self.made += 1
        stage = f"stage-{self.made:010x}"
        evaluations = tuple(
            self.evaluation(attack, found) for attack, found in by_attack(evaluation or summary(0.9, 0.6, 0.5))
        )
        directory = self.put("models", stage, TRAINED if training is None else training)
        if history is not None:
            pd.DataFrame(history).to_parquet(directory / "history.parquet")
        return RunSpec(seed=seed, model=stage, evaluations=evaluations)

    def evaluation(self, attack: str, found: Mapping[str, Any]) -> str:
        """An evaluation under an attack, with such a summary."""
        self.made += 1
        stage = f"stage-{self.made:010x}"
        put_evaluation(self.put("evaluations", stage, {}), found)
        return stage

    def put(self, kind: str, stage: str, facts: Mapping[str, Any], files: Mapping[str, str] | None = None) -> Path:
        """The directory of a stage with these facts in its record, and these files."""
        directory = self.job.upstream(kind, stage)
        directory.mkdir(parents=True)
        for name, text in (files or {}).items():
            (directory / name).write_text(text)
        write_record(directory, facts)
        return directory


def make_up_results(plan: Plan) -> int:
    """Put an invented result of every stage that a planned table reads in its place; returns how many."""
    read = {pair for table in plan.targets.values() for pair in plan.stages[table].upstream}
    for number, (_, stage) in enumerate(sorted(read)):
        directory = plan.directory(stage)
        directory.mkdir(parents=True)
        write_record(directory, _made(plan.stages[stage], directory, random.Random(number)))
    return len(read)


def _made(spec: Stage, directory: Path, chance: random.Random) -> dict[str, Any]:
    if isinstance(spec, EvaluationStage):
        attacked = {"accuracy": chance.uniform(0.4, 0.6), "images": 1000, "zero_gradients": 0, "random": False}
        summary = {"clean": {"accuracy": chance.uniform(0.8, 0.9), "images": 1000}, spec.attack: attacked}
        put_evaluation(directory, summary)
        return {}
    if spec.kind == "models":
        validated = [chance.random() for _ in range(EPOCHS)]
        history = pd.DataFrame({"epoch": range(1, EPOCHS + 1), "validation_pgd": validated})
        history.to_parquet(directory / "history.parquet")
        return {"training_seconds": chance.uniform(10, 20), "steps": 100, "images_kept": 1000}
    if spec.kind == "layouts":
        return {"density": chance.uniform(100, 200), "separation": chance.uniform(0.5, 1)}
    found = {"mae": chance.uniform(0.1, 0.2), "constant_mae": 0.2, "spearman": chance.random()}
    return {"settings": {"k": 5, "metric": "cosine", "sources": "all"}, "held_out": found}
