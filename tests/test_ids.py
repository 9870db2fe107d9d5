"""Ids of everything that people ask for: they move only where a setting or a DEFINITION moves.

A target's id is a hash of all that it rests on, so one id a target pins every stage below it. Write the file anew with
``python tests/test_ids.py`` when ids are meant to move, and say in the commit which did and why.
"""

import json
from pathlib import Path
from typing import Any

import pytest

from robustprune.experiments.papers import load_experiments, load_figures
from robustprune.planning.config import load_config
from robustprune.planning.plan import make_plan

IDS = Path(__file__).with_suffix(".json")
SETS = {
    "subsets": {"part": {"of": "generate", "count": 500}},
    "selections": {"surest": {"of": "generate", "keep": "1/2"}},
    "unions": {"both": {"of": {"subset:part": None, "selection:surest": None}}},
}
CONFIGURATIONS: dict[str, dict[str, Any]] = {
    "digits": {"preset": "digits"},
    "mnist": {"preset": "mnist"},
    "cifar10": {"preset": "cifar10"},
    "cifar10, boundary search": {"preset": "cifar10", "margins": {"method": "boundary_search"}},
    "digits, sets of sets": {"preset": "digits", **SETS, "synthetic": {"source": "union:both"}},
}


def ids(overrides: dict[str, Any]) -> dict[str, str]:
    """The stage of each target."""
    plan = make_plan(load_config(overrides), load_experiments(), load_figures(), quality=True, page=True)
    return dict(plan.targets)


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_ids_are_the_committed_ones(name: str) -> None:
    assert ids(CONFIGURATIONS[name]) == json.loads(IDS.read_text())[name]


if __name__ == "__main__":
    IDS.write_text(json.dumps({name: ids(overrides) for name, overrides in CONFIGURATIONS.items()}, indent=1) + "\n")
