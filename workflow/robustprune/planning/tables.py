"""Plans tables: what each form of them reads for its rows, and which of its paper's claims are judged."""

from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from typing import TYPE_CHECKING, Any, TypeVar, cast

from pydantic import BaseModel

from robustprune.core.errors import UserError
from robustprune.core.files import digest
from robustprune.core.paths import REFERENCE
from robustprune.evaluation.robustness import EvaluationStage
from robustprune.experiments.row import Conditions, Row
from robustprune.experiments.tables.forms import (
    AnyTable,
    Comparisons,
    Extrapolations,
    HyperparameterName,
    Hyperparameters,
    Layouts,
    Table,
)
from robustprune.experiments.tables.printed import printed_row, read_printed
from robustprune.experiments.tables.quantity import QuantityName
from robustprune.experiments.tables.row_specs import Cells, RowSpec, RunSpec
from robustprune.experiments.tables.table import TableStage
from robustprune.networks.architecture import Architecture
from robustprune.planning.conditions import changed_by
from robustprune.planning.config import Config, load_config, preset_names
from robustprune.scores.dynamics_score import DynamicsScoreStage
from robustprune.scores.embedding import EmbeddingStage
from robustprune.scores.extrapolated import ExtrapolatedScoreStage
from robustprune.training.model import ModelStage
from robustprune.training.recipes.base import AnyRecipe, MultiStepRecipe
from robustprune.training.recipes.rs_fgsm import RsFgsmRecipe
from robustprune.training.schedules import Position, cycle_point

if TYPE_CHECKING:
    from robustprune.planning.context import Context


Entry = TypeVar("Entry", bound=BaseModel)
NETWORKS: dict[Architecture, str] = {
    "fast_cnn": "CNN (16,32 filters, 100 FC units)",
    "fast_preact_resnet18": "PreAct-ResNet18",
}
OPTIMIZERS = {"adam": "Adam", "sgd": "SGD", "nesterov": "SGD, Nesterov"}
BEGINNING = Position(number=0, epoch=0, step=0, steps=100, epochs=100)
PIXEL = 255


def with_claims_on(data: str, entry: Entry) -> Entry:
    """Return a table or figure without the claims that its paper makes of another data set than ``data``."""
    claims: tuple[Any, ...] = getattr(entry, "claims", ())
    made = tuple(claim for claim in claims if claim.data in (None, data))
    return entry if made == claims else entry.model_copy(update={"claims": made})


def plan_table(context: "Context", name: str, table: AnyTable) -> str:
    """Plan a table and return its stage. Raises UserError for rows that the configuration does not allow."""
    table, printed = with_claims_on(context.config.data.name, table), table.printed
    if printed is not None:
        read_printed(REFERENCE / printed.file)
    rows = tuple(_rows(context, table))
    return context.add(
        TableStage(
            name=name,
            title=table.title,
            form=table.form,
            quantities=table.quantities,
            classes=context.config.data.classes,
            compared=table.quantity if isinstance(table, Comparisons) else None,
            printed=printed,
            printed_digest=digest(REFERENCE / printed.file) if printed else None,
            claims=table.claims,
            setting=_setting(context, rows),
            spread=_spread(table),
            rows=rows,
        )
    )


def _setting(context: "Context", rows: Sequence[RowSpec]) -> str:
    """Return what rows are measured on and with, for readers; nothing where nothing was measured."""
    if not any(row.runs for row in rows):
        return ""
    stages = dict.fromkeys(stage for row in rows for run in row.runs for stage in run.evaluations)
    specs = [cast(EvaluationStage, context.stages[stage]) for stage in stages]
    attacks = dict.fromkeys(spec.attack_in_words for spec in specs if spec.threat)
    return "; ".join([context.config.data.name, *attacks, *dict.fromkeys(_partly_recorded(context, rows))])


def _partly_recorded(context: "Context", rows: Sequence[RowSpec]) -> Iterator[str]:
    """Yield which scores are of a part of the epochs alone, so that their windows are longer than a paper's."""
    models = [context.stages[run.model] for row in rows for run in row.runs if run.model]
    manifests = dict.fromkeys(model.manifest for model in models if isinstance(model, ModelStage) and model.manifest)
    upstream = (pair for manifest in manifests for pair in context.stages[manifest].upstream)
    for score in (context.stages[stage] for kind, stage in upstream if kind == "scores"):
        if not isinstance(score, DynamicsScoreStage):
            continue
        for model in (cast(ModelStage, context.stages[recorded]) for recorded in score.models):
            if model.recording and model.recording.epochs:
                yield f"{score.score} is of {model.recording.epochs} of {model.training.epochs} epochs"


def _spread(table: AnyTable) -> str:
    """Return what differs between the runs of a row, for readers; nothing where no row has runs."""
    if not isinstance(table, Table | Comparisons):
        return ""
    rows = (table.of if isinstance(table, Comparisons) else table).rows
    parts = ["runs differ in their seed: first weights, order of images, attacks"]
    if any(row.draws for row in rows):
        parts.append("random subsets are drawn anew for each")
    measured = [row for row in rows if row.uses_score or row.uses_margins]
    if any(not row.margin_model_per_seed for row in measured):
        parts.append("scores and margins are measured once, so that chance in them is not in the spread")
    if anew := [row.method for row in measured if row.margin_model_per_seed]:
        parts.append(f"in {', '.join(anew)} they are measured anew for each run")
    return "; ".join(parts)


def _rows(context: "Context", table: AnyTable) -> Iterator[RowSpec]:
    match table:
        case Table():
            return _of_methods(context, table)
        case Comparisons():
            return _of_comparisons(context, table)
        case Hyperparameters():
            return _of_hyperparameters(context, table)
        case Layouts():
            return _of_layouts(context, table)
        case Extrapolations():
            return _of_extrapolations(context, table)


def _of_methods(context: "Context", table: Table) -> Iterator[RowSpec]:
    for row in table.rows:
        baseline = table.compared_with(row)
        yield RowSpec(
            method=row.method,
            runs=context.runs(row, table),
            against=context.runs(table.row(baseline), table),
            baseline=baseline,
            printed=_printed(context, table, row.printed) if _is_as_printed(context, row) else None,
        )


def _is_as_printed(context: "Context", row: Row) -> bool:
    """Return True if a row's margins are of a model like the paper's, as far as it names one."""
    return row.margin_checkpoint is None or row.margin_checkpoint in context.config.checkpoints


def _of_comparisons(context: "Context", table: Comparisons) -> Iterator[RowSpec]:
    context.check_measured([table.quantity], table.of.attacks)
    for row in table.rows:
        yield RowSpec(
            method=row.method,
            runs=context.runs(table.of.row(row.row), table.of),
            against=context.runs(table.of.row(row.against), table.of),
            printed=_printed(context, table, row.printed),
        )


def _of_hyperparameters(context: "Context", table: Hyperparameters) -> Iterator[RowSpec]:
    """A column for this configuration and one for each preset that the table names."""
    presets = preset_names()
    configs = {name: load_config({"preset": name}) if name in presets else context.config for name in table.quantities}
    for row in table.rows:
        told: dict[QuantityName, str] = {
            name: _hyperparameter(row.setting, table, config) for name, config in configs.items()
        }
        yield RowSpec(method=row.method, told=told, printed=_printed(context, table, row.printed))


def _hyperparameter(name: HyperparameterName, table: Hyperparameters, config: Config) -> str:
    """Return what a setting of the table's recipe is in a configuration. Raises UserError where the recipe has none."""
    config = changed_by(Conditions(architecture=table.architecture), config, origin=table.target)
    recipe, epsilon = config.training.named(table.recipe), config.threat.epsilon
    match name:
        case "architecture":
            return NETWORKS.get(config.architecture, config.architecture)
        case "optimizer":
            return OPTIMIZERS[recipe.optimizer]
        case "momentum":
            return "n/a" if recipe.optimizer == "adam" else f"{cycle_point(recipe, BEGINNING).momentum:g}"
        case "weight_decay":
            return f"{recipe.weight_decay:g}"
        case "epochs":
            return str(recipe.epochs)
        case "learning_rate":
            return f"{recipe.learning_rate:g}"
        case "epsilon":
            return _radius(epsilon)
        case "attack_step":
            return _radius(_attack_step(recipe, epsilon, table))


def _attack_step(recipe: AnyRecipe, epsilon: Fraction, table: Hyperparameters) -> Fraction:
    if isinstance(recipe, RsFgsmRecipe):
        return Fraction(str(recipe.step_scale)) * epsilon
    if isinstance(recipe, MultiStepRecipe):
        return recipe.step_size
    raise UserError(f"{table.target}: recipe = {recipe.recipe} attacks nothing, so it has no attack step")


def _radius(value: Fraction) -> str:
    """As papers write radii: a short decimal fraction, or 255ths."""
    if len(decimal := f"{float(value):g}") <= len("0.0625"):
        return decimal
    return f"{value * PIXEL}/{PIXEL}" if PIXEL % value.denominator == 0 else str(value)


def _of_layouts(context: "Context", table: Layouts) -> Iterator[RowSpec]:
    for row in table.rows:
        runs = tuple(RunSpec(seed=seed, layout=context.layout(row, seed)) for seed in context.config.seeds)
        yield RowSpec(method=row.method, runs=runs, printed=_printed(context, table, row.printed))


def _of_extrapolations(context: "Context", table: Extrapolations) -> Iterator[RowSpec]:
    for row in table.rows:
        scores = {context.from_seed(seed).scored(row)[-1]: seed for seed in reversed(context.config.seeds)}
        spec = context.stages[next(reversed(scores))]
        if not isinstance(spec, ExtrapolatedScoreStage):
            raise UserError(
                f"{row.method}: training.{row.recipe} learns from the real images alone, so there are no scores to "
                "extrapolate; set its synthetic_fraction above 0"
            )
        encoder = cast(EmbeddingStage, context.stages[spec.embedding]).encoder.describe()
        yield RowSpec(
            method=row.method,
            runs=tuple(RunSpec(seed=seed, score=score) for score, seed in reversed(scores.items())),
            told={"encoding": encoder},
            printed=_printed(context, table, row.printed),
        )


def _printed(context: "Context", table: AnyTable, cells: Cells | None) -> Cells | None:
    """Which printed row stands beside, on the data set of this configuration. Raises UserError if there is none."""
    if table.printed is None or cells is None:
        return None
    found = _on_data(cells, table.printed.instead.get(context.config.data.name, {}))
    if found is not None:
        printed_row(table.printed, found)
    return found


def _on_data(cells: Cells, instead: Mapping[str, str | None]) -> Cells | None:
    """Cells of a printed row with those put in that stand for them on a data set; None where nothing does."""
    if isinstance(cells, str):
        return instead.get(cells, cells)
    found = {column: instead.get(text, text) for column, text in cells.items()}
    return None if None in found.values() else cast(dict[str, str], found)
