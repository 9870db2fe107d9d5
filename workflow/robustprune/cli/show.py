"""``robustprune show``: what a stage directory or a table holds, for people."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
from pandas.errors import EmptyDataError, ParserError

from robustprune.core.errors import UserError
from robustprune.core.paths import PARTIAL, RECORD_FILE
from robustprune.core.record import Record, read_record
from robustprune.core.stage_file import read_spec
from robustprune.scores.distribution import Histogram

TEXT_BINS = 20  # lines of a histogram


def describe_path(path: Path) -> str:
    """Return a table's CSV as text, or a stage directory's spec, record and outputs. Raises UserError for neither."""
    if path.suffix == ".csv":
        return _table(path)
    if not path.is_dir():
        raise UserError(f"{path} is neither a stage's directory nor a table's .csv file")
    return _stage(path)


def _table(path: Path) -> str:
    """Return the table transposed, a column a method, so that it fits a terminal."""
    try:
        table = pd.read_csv(path, keep_default_na=False, na_values=[""])  # "None" and "n/a" are names
    except (OSError, EmptyDataError, ParserError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not a readable table: {error}") from None
    return table.set_index(table.columns[0]).astype(object).T.fillna("").to_string()


def _stage(directory: Path) -> str:
    spec = read_spec(directory, made=True)
    lines = [directory.absolute().name, f"  kind  {spec.kind}"]
    lines += [f"  reads {kind}/{upstream}" for kind, upstream in spec.upstream]
    lines += ["settings", *_indented(spec.model_dump(mode="json"))]
    if not (directory / RECORD_FILE).is_file():
        state = "begun; 'robustprune run' goes on" if (directory / PARTIAL).is_dir() else "not begun"
        return "\n".join([*lines, f"not complete: {state}"])
    return "\n".join([*lines, *_record_lines(read_record(directory)), *_output_lines(directory)])


def _record_lines(record: Record) -> list[str]:
    return [
        f"complete since {record.finished}: {record.seconds:.1f} s on {record.device}, "
        f"{record.peak_memory_mb:.0f} MB of memory, {record.peak_gpu_memory_mb:.0f} MB on the GPU",
        *_fact_lines(record.facts),
        "outputs",
        *(f"  {name}  blake3 {digest[:16]}" for name, digest in record.digests.items()),
    ]


def _fact_lines(facts: dict[str, Any]) -> list[str]:
    """A line a fact; a table where facts come by class or pool; a histogram as bars."""
    lines: list[str] = []
    for key, value in facts.items():
        if key.endswith("histogram"):
            drawn = Histogram(**value)
            lines += [f"  {key}: lower edge, images", *drawn.coarser(-(-len(drawn.counts) // TEXT_BINS)).lines()]
        elif isinstance(value, dict) and value and all(isinstance(item, dict) for item in value.values()):
            table = pd.DataFrame.from_dict(value, orient="index").to_string(float_format="{:.4g}".format)
            lines += [f"  {key}", *(f"    {line}" for line in table.splitlines())]
        else:
            lines += _indented({key: value})
    return lines


def _output_lines(directory: Path) -> list[str]:
    lines: list[str] = []
    for path in sorted(directory.glob("*.parquet")):
        lines += _last_rows(path)
    for path in sorted(directory.glob("*.csv")):
        lines += [path.name, _table(path)]
    return lines


def _last_rows(path: Path) -> list[str]:
    """Return how many rows a Parquet file has, and up to three of its last group; no more is read."""
    with pq.ParquetFile(path) as file:
        rows, groups = file.metadata.num_rows, file.metadata.num_row_groups
        if rows == 0:
            return [f"{path.name}: no rows"]
        last = file.read_row_group(groups - 1).to_pandas().tail(3)
    return [f"{path.name}: {rows} rows, the last ones", last.to_string(index=False)]


def _indented(values: dict[str, object]) -> list[str]:
    return [f"  {key}: {value if isinstance(value, str) else json.dumps(value)}" for key, value in values.items()]
