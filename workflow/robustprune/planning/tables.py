"""Plans tables: what each form of them reads for its rows."""

from collections.abc import Iterator, Mapping, Sequence
from typing import cast

from robustprune.core.errors import UserError
from robustprune.core.files import digest
from robustprune.core.paths import REFERENCE
from robustprune.evaluation.specs import EvaluationStage
from robustprune.experiments.row import Row
from robustprune.experiments.tables.forms import AnyTable, Comparisons, Extrapolations, Hyperparameters, Layouts, Table
from robustprune.experiments.tables.printed import printed_row, read_printed
from robustprune.experiments.tables.settings import Cells, QuantityName
from robustprune.experiments.tables.specs import RowSpec, RunSpec, TableStage
from robustprune.planning.claims import with_claims_on
from robustprune.planning.config import Config, load_config, preset_names
from robustprune.planning.hyperparameters import hyperparameter
from robustprune.planning.methods import Methods
from robustprune.planning.stages import Stages
from robustprune.scores.embeddings.specs import EmbeddingStage
from robustprune.scores.specs import ExtrapolatedScoreStage


class Tables:
    """What people ask for, from the back to the front."""

    def __init__(self, config: Config, stages: Stages) -> None:
        self.config = config
        self.stages = stages
        self.methods = Methods(config, stages)

    def table(self, name: str, table: AnyTable) -> str:
        """The stage of a table. Raises UserError for rows that the configuration does not allow."""
        table, printed = with_claims_on(self.config.data.name, table), table.printed
        if printed is not None:
            read_printed(REFERENCE / printed.file)
        rows = tuple(self._rows(table))
        return self.stages.add(
            TableStage(
                name=name,
                title=table.title,
                form=table.form,
                quantities=table.quantities,
                classes=self.config.data.classes,
                compared=table.quantity if isinstance(table, Comparisons) else None,
                printed=printed,
                printed_digest=digest(REFERENCE / printed.file) if printed else None,
                claims=table.claims,
                setting=self._setting(rows),
                rows=rows,
            )
        )

    def _setting(self, rows: Sequence[RowSpec]) -> str:
        """What rows are measured on and with, for readers; nothing where nothing was measured."""
        if not any(row.runs for row in rows):
            return ""
        stages = dict.fromkeys(stage for row in rows for run in row.runs for stage in run.evaluations)
        specs = [cast(EvaluationStage, self.stages[stage]) for stage in stages]
        return "; ".join([self.config.data.name, *dict.fromkeys(spec.attack_in_words for spec in specs if spec.threat)])

    def _rows(self, table: AnyTable) -> Iterator[RowSpec]:
        match table:
            case Table():
                return self._of_methods(table)
            case Comparisons():
                return self._of_comparisons(table)
            case Hyperparameters():
                return self._of_hyperparameters(table)
            case Layouts():
                return self._of_layouts(table)
            case Extrapolations():
                return self._of_extrapolations(table)

    def _of_methods(self, table: Table) -> Iterator[RowSpec]:
        for row in table.rows:
            baseline = table.compared_with(row)
            yield RowSpec(
                method=row.method,
                runs=self._runs(table, row.method),
                against=self._runs(table, baseline),
                baseline=baseline,
                printed=self._printed(table, row.printed),
            )

    def _of_comparisons(self, table: Comparisons) -> Iterator[RowSpec]:
        self.methods.check_measured([table.quantity], table.of.attacks)
        for row in table.rows:
            yield RowSpec(
                method=row.method,
                runs=self._runs(table.of, row.row),
                against=self._runs(table.of, row.against),
                printed=self._printed(table, row.printed),
            )

    def _of_hyperparameters(self, table: Hyperparameters) -> Iterator[RowSpec]:
        """A column for this configuration and one for each preset that the table names."""
        presets = preset_names()
        configs = {name: load_config({"preset": name}) if name in presets else self.config for name in table.quantities}
        for row in table.rows:
            told: dict[QuantityName, str] = {
                name: hyperparameter(row.setting, table, config) for name, config in configs.items()
            }
            yield RowSpec(method=row.method, told=told, printed=self._printed(table, row.printed))

    def _of_layouts(self, table: Layouts) -> Iterator[RowSpec]:
        for row in table.rows:
            runs = tuple(RunSpec(seed=seed, layout=self.methods.layout(row, seed)) for seed in self.config.seeds)
            yield RowSpec(method=row.method, runs=runs, printed=self._printed(table, row.printed))

    def _of_extrapolations(self, table: Extrapolations) -> Iterator[RowSpec]:
        for row in table.rows:
            score = self._extrapolated(row)
            spec = self.stages[score]
            if not isinstance(spec, ExtrapolatedScoreStage):
                raise UserError(
                    f"{row.method}: training.{row.recipe} learns from the real images alone, so there are no scores to "
                    "extrapolate; set its synthetic_fraction above 0"
                )
            encoder = cast(EmbeddingStage, self.stages[spec.embedding]).encoder.describe()
            yield RowSpec(
                method=row.method,
                runs=(RunSpec(seed=self.config.seeds[0], score=score),),
                told={"encoding": encoder},
                printed=self._printed(table, row.printed),
            )

    def _runs(self, table: Table, method: str) -> tuple[RunSpec, ...]:
        row = table.row(method)
        return self.methods.under(row).runs(row, table)

    def _extrapolated(self, row: Row) -> str:
        return self.methods.under(row).scored(row)[-1]

    def _printed(self, table: AnyTable, cells: Cells | None) -> Cells | None:
        """Which printed row stands beside, on the data set of this configuration. Raises UserError if there is none."""
        if table.printed is None or cells is None:
            return None
        found = _on_data(cells, table.printed.instead.get(self.config.data.name, {}))
        if found is not None:
            printed_row(table.printed, found)
        return found


def _on_data(cells: Cells, instead: Mapping[str, str | None]) -> Cells | None:
    """Cells of a printed row with those put in that stand for them on a data set; None where nothing does."""
    if isinstance(cells, str):
        return instead.get(cells, cells)
    found = {column: instead.get(text, text) for column, text in cells.items()}
    return None if None in found.values() else cast(dict[str, str], found)
