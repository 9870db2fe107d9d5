"""Claims of the papers: what became of each in the tables and figures that are made."""

from collections.abc import Iterator
from typing import Any, NamedTuple

from robustprune.core.record import read_record
from robustprune.planning.plan import Plan

PAPERS = {
    "puma": "PUMA",
    "kaufmann_v1": "Kaufmann et al. v1",
    "kaufmann_v2": "Kaufmann et al. v2",
    "nieth": "Nieth et al.",
}


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
    """Return a Markdown table: paper, data set, table or figure, claim, what was measured, verdict; then the counts."""
    made = list(made_claims(plan))
    lines = ["| paper | data | where | claim | measured | verdict |", "|---|---|---|---|---|---|"]
    for paper, target, judged in made:
        where = target.removeprefix("results/").removesuffix(".csv").removesuffix(".svg")
        cells = (PAPERS.get(paper, paper), plan.config.data.name, where, judged["claim"])
        measured = "; ".join(judged["found"]).replace("|", "\\|")
        lines.append(f"| {' | '.join(cells)} | {measured} | {judged['verdict']} |")
    counts = {verdict: sum(one.judged["verdict"] == verdict for one in made) for verdict in VERDICTS}
    return "\n".join([*lines, "", ", ".join(f"{count} {verdict}" for verdict, count in counts.items())])
