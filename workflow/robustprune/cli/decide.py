"""How many seeds would decide the claims that a made table or figure cannot tell, and what these would cost."""

from collections.abc import Callable, Sequence
from typing import Any

from robustprune.cli.plan_view import costs_of
from robustprune.core.errors import UserError
from robustprune.core.record import read_record
from robustprune.planning.config import Config
from robustprune.planning.plan import Plan


def describe_decision(plan: Plan, targets: Sequence[str], planned: Callable[[Config], Plan]) -> str:
    """Return a line a claim that is undecided, and what the seeds that would decide them all would cost.

    Args:
        plan: the plan of the configuration.
        targets: made tables and figures.
        planned: plans another configuration.

    Raises:
        UserError: for a target that claims nothing, or is not made.
    """
    if not targets:
        raise UserError("--decide: name the tables or figures, e.g. results/table1.csv")
    wanted, lines = len(plan.config.seeds), []
    for target in targets:
        for claim in _claims(plan, target):
            lines.append(f"{target}: {claim['claim']}: {claim['verdict']}{_in_words(claim, len(plan.config.seeds))}")
            wanted = max(wanted, claim.get("seeds") or 0)
    if wanted == len(plan.config.seeds):
        return "\n".join(lines)
    more = planned(plan.config.model_copy(update={"seeds": with_more(plan.config.seeds, wanted)}))
    return "\n".join([*lines, f"with {wanted} seeds:", *costs_of(more, targets)])


def with_more(seeds: tuple[int, ...], count: int) -> tuple[int, ...]:
    """Return the seeds and the smallest others that make them ``count``."""
    others = (seed for seed in range(count + len(seeds)) if seed not in seeds)
    return (*seeds, *(seed for seed, _ in zip(others, range(count - len(seeds)), strict=False)))


def _claims(plan: Plan, target: str) -> list[dict[str, Any]]:
    stage = plan.targets.get(target)
    if stage is None:
        raise UserError(f"--decide: {target} is no table or figure of this configuration")
    if not plan.record(stage).is_file():
        raise UserError(f"--decide: {target} is not made by this configuration yet; make it first")
    claims: list[dict[str, Any]] = read_record(plan.directory(stage)).facts.get("claims", [])
    return claims


def _in_words(claim: dict[str, Any], seeds: int) -> str:
    if claim["verdict"] != "cannot tell":
        return ""
    if (claim.get("seeds") or 0) <= seeds:
        return "; more seeds alone would not decide it"
    return f"; {claim['seeds']} seeds would decide it"
