"""Where things lie: in the workflow, and under ``results/``."""

from pathlib import Path

WORKFLOW = Path(__file__).resolve().parents[2]
PRESETS = WORKFLOW / "presets"
EXPERIMENTS = WORKFLOW / "experiments"
REFERENCE = WORKFLOW / "reference"
CONFIG_FILE = Path("config.yaml")  # of the working directory

SPEC_FILE = "spec.json"
POOL_FILE = "pool.json"  # what a pool is
STORE_NAME = "scores.zarr"  # the store of a score
RECORD_FILE = "record.json"
KEPT_RECORD_FILE = ".record.json"  # a copy that Snakemake, which deletes declared outputs before a rerun, does not know
PULLED_FILE = "pulled.json"  # in the directory of a stage that was pulled: from where, and what was said of it
PARTIAL = "partial"
PARTS = "parts"
LOCK_FILE = ".lock"
HISTORY_FILE = "history.parquet"  # of a model: a row an epoch
MID_TRAINING_FILE = "mid_training.parquet"  # of a model that pruned in its training: score and choice of each image
FIGURE_FILE, FIGURE_DATA_FILE, CAPTION_FILE = "figure.svg", "figure.csv", "caption.md"  # of a figure
GRID_FILE = "grid.csv"  # of an extrapolated score: all settings that were tried


def stage_directory(results: Path, kind: str, stage_id: str) -> Path:
    """``results/<preset>/<kind>/<id>``; ``results`` includes the preset."""
    return results / kind / stage_id


def dynamics_name(pool_id: str) -> str:
    """The store of what a training recorded of a pool's images, in the model's directory."""
    return f"dynamics-{pool_id}.zarr"


def part_marker(directory: Path, rows: range) -> Path:
    """The file in a stage's directory that says that a job has computed these rows."""
    return directory / PARTS / f"{rows.start}-{rows.stop}.json"
