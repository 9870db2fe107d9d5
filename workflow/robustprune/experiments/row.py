"""A row of a table: a method in the paper's terms, and the conditions under which its models are trained."""

from fractions import Fraction

from pydantic import Field, ValidationError, model_validator

from robustprune.attacks.margin_method import MarginMethodName
from robustprune.core.settings import Exact, Line, Norm, Settings, Weights
from robustprune.core.wording import what_is_wrong
from robustprune.experiments.tables.row_specs import Cells
from robustprune.images.settings import GENERATED_PATTERN, TrainedOn
from robustprune.networks.architecture import Architecture, ArchitectureRole
from robustprune.pruning.radius import RadiusRule, measured_for
from robustprune.pruning.settings import ENDS, Among, DropBeyond, DropShare, Per, Strategy
from robustprune.scores.metric import METRICS
from robustprune.scores.score import ScoreName
from robustprune.training.mid_training import MidTraining
from robustprune.training.online import OnlinePuma
from robustprune.training.recipes.base import RecipeName

PRUNING_KEYS = {"strategy", "score", "ratio", "among", "per"}  # not used by a row that drops nothing
MARGIN_KEYS = {"margin_model", "margin_checkpoint", "margins", "imported"}  # used by such a row for its margins alone
KEYS_OF_CHECKPOINT = {"method", "checkpoint", "norm", "printed"}  # all keys of a network that was trained elsewhere


class Conditions(Settings):
    """Changes of the configuration under which all stages of a row are planned."""

    architecture: ArchitectureRole | Architecture | None = Field(
        None, description="a network, or its part in a paper (architectures of the config); architecture where absent"
    )
    norm: Norm | None = Field(None, description="the norm of threat or other_threat; of threat where absent")
    data: TrainedOn | None = Field(
        None, description="what is trained on: all | real | synthetic | source | real_and_source; data.trained_on else"
    )
    synthetic: str | None = Field(
        None,
        pattern=f"^({GENERATED_PATTERN})$",
        description="the generated images it learns from, e.g. subset:NAME; the config's synthetic.source where absent",
    )
    drawn: Exact = Field(
        Fraction(1), gt=0, description="images drawn from the generator, in units of the config's synthetic.count"
    )
    epochs: Exact = Field(Fraction(1), gt=0, le=10, description="of a training, in units of the recipe's")
    one_pass: bool = Field(
        False, description="an epoch is one pass over what is kept (papers.md, N17), not the recipe's epoch_images"
    )


class Row(Conditions):
    """A method: what is dropped by which score, how hard the rest is attacked, and under which conditions."""

    method: Line = Field(description="the method's name in our table")
    recipe: RecipeName = Field("trades", description="how the model is trained; a key of the section training")
    strategy: Strategy = Field("none", description="which images are dropped; see docs/pruning.md")
    score: ScoreName = Field("margin", description="what the strategy goes by; see docs/scores.md")
    ratio: float | tuple[float, float] | None = Field(
        None, description="share dropped, or one for each end; pruning.ratio of the config where absent"
    )
    threshold: Exact | tuple[Exact, Exact] | None = Field(
        None, description="the score beyond which images are dropped, or one for each end"
    )
    same_size_as: str | None = Field(None, description="method of the row that is followed in how many are dropped")
    among: Among = Field("all", description="which images may be dropped: all | real | synthetic")
    per: Per = Field("all", description="among which images a share is taken: all | class | source")
    radius: RadiusRule = Field("constant", description="how hard each image is attacked; see docs/pruning.md")
    gap: Exact = Field(Fraction(0), ge=0, description="taken off each margin (Eq. 3), in units of threat.epsilon")
    epsilon: Exact = Field(
        Fraction(1), ge=Fraction(1, 20), description="largest radius, in units of threat.epsilon (PUMA, Table 5)"
    )
    mid_training: MidTraining | None = Field(None, description="pruning in the middle of the training")
    online: OnlinePuma | None = Field(None, description="radii and pruning by the margins of the model in training")
    extrapolated: bool = Field(
        False, description="generated images get scores and margins from their nearest scored neighbours"
    )
    checkpoint: str | None = Field(None, description="a checkpoint of the config, evaluated in place of training")
    margin_model: "str | Row | None" = Field(
        None,
        description="what measures scores and margins: a checkpoint of the config, or another row's model of the first "
        "seed; margin_model of the config where absent",
    )
    margin_checkpoint: str | None = Field(
        None,
        description="a checkpoint that takes the place of margin_model where the config has it; the printed row, which "
        "is of such a one, stands beside ours only then",
    )
    margin_model_per_seed: bool = Field(
        False, description="each run's scores and margins are measured by a model of the run's own seed"
    )
    imported: str | None = Field(
        None, description="scores of the config that were measured elsewhere; the strategy goes by them, not by score"
    )
    margins: MarginMethodName | None = Field(
        None, description="how margins are measured; margins.method of the config where absent"
    )
    weights: Weights | None = Field(
        None, description="which weights of its models are evaluated; the table's or config's where absent"
    )
    printed: Cells | None = Field(None, description="the row of the printed numbers that stands beside")

    @model_validator(mode="after")
    def _radii_are_used(self) -> "Row":
        if self.recipe == "standard" and (self.radius != "constant" or self.epsilon != 1):
            given = f"radius = {self.radius}" if self.radius != "constant" else f"epsilon = {self.epsilon}"
            raise ValueError(f"recipe = standard attacks nothing, so {given} would change nothing")
        return self

    @model_validator(mode="after")
    def _checkpoints_are_used(self) -> "Row":
        unused = [name for name in type(self).model_fields if name in self.model_fields_set - KEYS_OF_CHECKPOINT]
        if self.checkpoint is not None and unused:
            raise ValueError(f"a row with a checkpoint trains nothing, so {', '.join(unused)} would change nothing")
        measured = self.uses_score and self.score not in METRICS
        named = next((key for key in ("margin_model", "margin_checkpoint") if getattr(self, key) is not None), None)
        if named is not None and not (measured or self.uses_margins):
            raise ValueError(f"a row with a {named} has a strategy that goes by a margin or a loss, or radius: margin")
        if self.margin_model_per_seed and not (self.uses_score or self.uses_margins):
            raise ValueError("margin_model_per_seed needs a strategy that goes by a score, or radius: margin")
        if self.margin_model_per_seed and (self.imported is not None or isinstance(self.margin_model, str)):
            key = "imported" if self.imported is not None else "margin_model"
            raise ValueError(f"margin_model_per_seed would change nothing: {key} = {getattr(self, key)} is of no seed")
        return self

    @model_validator(mode="after")
    def _measured_scores_are_used(self) -> "Row":
        if self.imported is not None and not (self.uses_score or self.uses_margins):
            raise ValueError(f"imported = {self.imported!r} needs a strategy that goes by a score, or radius: margin")
        if self.imported is not None and (self.extrapolated or "score" in self.model_fields_set):
            raise ValueError(f"imported = {self.imported!r} takes the place of score and is not extrapolated")
        if self.margins is not None and not (self.uses_margins or (self.uses_score and self.score == "margin")):
            raise ValueError(f"margins = {self.margins} needs a strategy that goes by the margin, or radius: margin")
        return self

    @property
    def conditions(self) -> Conditions:
        """Its conditions alone."""
        return Conditions(**{name: getattr(self, name) for name in Conditions.model_fields})

    @property
    def uses_score(self) -> bool:
        """True if the score must be computed for this row's strategy."""
        return not {"chance"}.issuperset(ENDS[self.strategy])

    @property
    def draws(self) -> bool:
        """True if chance decides which images are dropped, so that each run draws anew."""
        return "chance" in ENDS[self.strategy]

    @property
    def uses_margins(self) -> bool:
        """True if margins must be computed for this row's radii."""
        return "margin" in measured_for(self.radius)

    @property
    def uses_difficulty(self) -> bool:
        """True if the classification difficulty must be computed for this row's radii."""
        return "difficulty" in measured_for(self.radius)

    @property
    def uses_manifest(self) -> bool:
        """True if this row is anything but plain training on everything."""
        return self.strategy != "none" or self.radius != "constant" or self.epsilon != 1

    @property
    def unused_keys(self) -> tuple[str, ...]:
        """Given keys that change nothing, as no images are dropped or chance decides."""
        if self.uses_score:
            return ()
        keys = self._without_pruning if self.strategy == "none" else self._without_pruning - {"among", "per"}
        unused = self.model_fields_set & keys
        return tuple(key for key in ("score", "among", "per", "extrapolated") if key in unused)

    @property
    def _without_pruning(self) -> set[str]:
        """Keys that change nothing where no image is dropped."""
        measured = self.uses_margins or self.uses_difficulty
        return PRUNING_KEYS | (set() if self.uses_margins else MARGIN_KEYS) | (set() if measured else {"extrapolated"})

    @property
    def thresholds(self) -> tuple[Exact, ...]:
        """The threshold of each of the strategy's ends; empty where there is none."""
        if self.threshold is None:
            return ()
        return self.threshold if isinstance(self.threshold, tuple) else (self.threshold,)

    @property
    def amount(self) -> DropShare | DropBeyond | None:
        """Number of images dropped, where the row itself says so."""
        if self.thresholds:
            return DropBeyond(thresholds=self.thresholds)
        if isinstance(self.ratio, tuple):
            return DropShare(shares=self.ratio)
        if self.ratio is not None:
            return DropShare(shares=self.shares_of(self.ratio))
        return None

    def shares_of(self, ratio: float) -> tuple[float, ...]:
        """Return the ratio in even parts, one for each of the strategy's ends."""
        ends = len(ENDS[self.strategy])
        return (ratio / ends,) * ends if ends else ()

    def at(self, key: str, value: float) -> "Row":
        """Return this row with one key set, e.g. ratio or mid_training.keep; a row that drops nothing does not prune.

        Raises ValueError, naming row, key and value, where such a row is not allowed.
        """
        section, _, name = key.rpartition(".")
        given = self.model_dump(exclude_unset=True)
        changed = {section: {**(given.get(section) or {}), name: value}} if section else {name: value}
        values = {**given, **changed, "method": f"{self.method} at {value:g}"}
        if changed == {"ratio": 0}:
            values = {name: value for name, value in values.items() if name not in self._without_pruning}
        if (values.get("mid_training") or {}).get("keep") == 1:
            del values["mid_training"]
        try:
            return Row.model_validate(values)
        except ValidationError as error:
            problem = what_is_wrong(error.errors()[0], Row)
            raise ValueError(f"{self.method!r} with {key} = {value:g}: {problem}") from None

    @model_validator(mode="after")
    def _one_amount_that_fits(self) -> "Row":
        ends = ENDS[self.strategy]
        given = [name for name in ("ratio", "threshold", "same_size_as") if getattr(self, name) is not None]
        if len(given) > 1 or (given and not ends):
            raise ValueError(f"strategy = {self.strategy} goes with at most {min(len(ends), 1)} of {', '.join(given)}")
        if self.threshold is not None and not self.uses_score:
            raise ValueError(f"threshold = {self.threshold} needs a strategy that goes by a score, not {self.strategy}")
        if self.threshold is not None and "middle" in ends:
            raise ValueError(f"strategy = {self.strategy} goes by distance from the mean, so it takes no threshold")
        amount = self.amount
        numbers: tuple[object, ...] = amount.shares if isinstance(amount, DropShare) else self.thresholds
        if amount is not None and len(numbers) != len(ends):
            raise ValueError(f"strategy = {self.strategy} drops from {len(ends)} ends and needs as many numbers")
        if isinstance(amount, DropShare) and (min(amount.shares) < 0 or sum(amount.shares) >= 1):
            raise ValueError(f"ratio = {self.ratio} should be at least 0, and below 1 in all")
        if self.online is not None and (self.recipe == "standard" or self.radius != "constant"):
            raise ValueError("online takes the place of the radius, so it goes with radius: constant and an attack")
        if self.gap and not self.uses_margins:
            raise ValueError(f"gap = {self.gap} needs a radius that follows the margin, not {self.radius}")
        return self
