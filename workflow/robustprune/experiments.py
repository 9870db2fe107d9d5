"""The tables of a paper as data: rows in the paper's own terms, read from ``workflow/experiments``."""

from pathlib import Path

from pydantic import Field, ValidationError, model_validator

from robustprune.config import EXPERIMENTS, read_yaml
from robustprune.errors import UserError
from robustprune.settings import RadiusRule, RecipeName, ScoreName, Settings, Strategy


class Row(Settings):
    """A method: what is dropped by which score, and how hard the rest is attacked."""

    method: str = Field(description="the method's name in our table")
    recipe: RecipeName = Field("trades", description="how the model is trained; a key of the section training")
    strategy: Strategy = Field("none", description="which images are dropped")
    score: ScoreName = Field("margin", description="what the strategy goes by; see docs/scores.md")
    ratio: float | None = Field(None, ge=0, lt=1, description="share dropped; pruning.ratio of the config where absent")
    radius: RadiusRule = Field("constant", description="constant: epsilon; margin: clamp(margin, -epsilon, epsilon)")
    checkpoint: str | None = Field(None, description="a checkpoint of the config, evaluated in place of training")
    margin_model: str | None = Field(
        None,
        description="a checkpoint that measures scores and margins; margin_model of the config where absent",
    )
    printed: str | None = Field(None, description="the method's name in the file of printed numbers")

    @model_validator(mode="after")
    def _radii_are_used(self) -> "Row":
        if self.recipe == "standard" and self.radius != "constant":
            raise ValueError(f"recipe = standard attacks nothing, so radius = {self.radius} would change nothing")
        return self

    @model_validator(mode="after")
    def _checkpoints_are_used(self) -> "Row":
        if self.checkpoint is not None and self.uses_manifest:
            raise ValueError("a row with a checkpoint trains nothing: it has no strategy and no radius")
        if self.margin_model is not None and not (self.uses_score or self.uses_margins):
            raise ValueError("a row with a margin_model has a strategy that goes by a score, or radius: margin")
        return self

    @property
    def uses_score(self) -> bool:
        """Whether the score must be computed for this row's strategy."""
        return self.strategy not in ("none", "random")

    @property
    def uses_margins(self) -> bool:
        """Whether margins must be computed for this row's radii."""
        return self.radius != "constant"

    @property
    def uses_manifest(self) -> bool:
        """Whether this row is anything but plain training on everything."""
        return self.strategy != "none" or self.radius != "constant"


class Table(Settings):
    """One table: its rows, and where the paper's own numbers are."""

    title: str
    target: str = Field(description="file under results/ that shows the configured preset's table")
    printed_file: str | None = Field(
        None, description="file in workflow/reference with the printed numbers; none where a paper prints none"
    )
    printed_setting: str = Field("", description="what the printed numbers were measured on, for the column names")
    rows: tuple[Row, ...] = Field(min_length=1)


class Experiments(Settings):
    """The tables of one paper."""

    paper: str
    tables: dict[str, Table]


def load_experiments(folder: Path = EXPERIMENTS) -> dict[str, Table]:
    """Every table of every paper, by ``<paper>.<table>``. Raises UserError naming the file and key."""
    tables: dict[str, Table] = {}
    for path in sorted(folder.glob("*.yaml")):
        try:
            experiments = Experiments.model_validate(read_yaml(path))
        except ValidationError as error:
            problem = error.errors()[0]
            key = ".".join(str(part) for part in problem["loc"])
            value = "" if isinstance(problem["input"], dict) else f" = {problem['input']!r}"
            raise UserError(f"{path.name}: {key}{value}: {problem['msg'].removeprefix('Value error, ')}") from None
        tables |= {f"{experiments.paper}.{name}": table for name, table in experiments.tables.items()}
    return tables
