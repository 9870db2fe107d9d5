"""Claims of the papers: what became of each in the tables and figures that are made."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from robustprune.cli.plan_view import costs_of
from robustprune.core.errors import UserError
from robustprune.core.record import read_record
from robustprune.planning.config import Config
from robustprune.planning.plan import Plan

PAPERS = {
    "puma": "PUMA",
    "kaufmann_v1": "Kaufmann et al. v1",
    "kaufmann_v2": "Kaufmann et al. v2",
    "nieth": "Nieth et al.",
}


MOST_PLANNED = 300  # seeds; what more would cost is not planned
VERDICTS = ("agrees", "disagrees", "cannot tell")


class MadeClaim(NamedTuple):
    """A claim that a made table or figure judges.

    Attributes:
        paper: name of the file of experiments.
        target: the table or figure.
        judged: claim, found, verdict and seeds, as in the stage's record.
    """

    paper: str
    target: str
    judged: dict[str, Any]


def made_claims(plan: Plan) -> Iterator[MadeClaim]:
    """Yield the claims of the tables and figures of a configuration that are made, in the order of the targets."""
    for target, stage in plan.targets.items():
        if plan.stages[stage].kind in ("tables", "figures") and plan.record(stage).is_file():
            paper = getattr(plan.stages[stage], "name", "").partition(".")[0]
            for judged in read_record(plan.directory(stage)).facts.get("claims", []):
                yield MadeClaim(paper, target, judged)


def describe_claims(plan: Plan) -> str:
    """Return a Markdown table: paper, data set, table or figure, claim, what was measured, verdict; then the counts.

    Raises UserError where nothing is made.
    """
    made = list(made_claims(plan))
    if not made:
        raise UserError("no table or figure that judges a claim is made by this configuration yet")
    lines = ["| paper | data | where | claim | measured | verdict |", "|---|---|---|---|---|---|"]
    for paper, target, judged in made:
        where = target.removeprefix("results/").removesuffix(".csv").removesuffix(".svg")
        cells = (PAPERS.get(paper, paper), plan.config.data.name, where, judged["claim"])
        measured = "; ".join(judged["found"]).replace("|", "\\|")
        lines.append(f"| {' | '.join(cells)} | {measured} | {judged['verdict']} |")
    counts = {verdict: sum(one.judged["verdict"] == verdict for one in made) for verdict in VERDICTS}
    return "\n".join([*lines, "", ", ".join(f"{count} {verdict}" for verdict, count in counts.items())])


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
    if wanted == len(plan.config.seeds) or wanted > MOST_PLANNED:
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
        return "; no number of seeds is known to decide it"
    return f"; {claim['seeds']} seeds would decide it"
