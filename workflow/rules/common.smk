# What all rules share: the plan, and how a rule asks it for inputs and resources.
import re

from robustprune.planning.config import load_config
from robustprune.core.yaml_files import read_yaml, with_nulls
from robustprune.core.errors import UserError
from robustprune.experiments.papers import load_experiments, load_figures
from robustprune.core.paths import part_marker
from robustprune.core.locations import put_into_environment
from robustprune.planning.plan import make_plan, stages_of_target
from robustprune.sharing.lookup import with_pulls
from robustprune.core.registry import kinds
from robustprune.core.stage import ID_PATTERN

try:
    # Snakemake takes the last of two keys of one name, without a word.
    for path in workflow.configfiles:
        read_yaml(Path(path))
    CONFIG = load_config(with_nulls(config))
    PLAN = make_plan(
        CONFIG, load_experiments(), load_figures(), quality=True, page=True
    )
    # A job's own Snakemake, perhaps on a node that reaches nothing outside, asks no shared store.
    PLAN = with_pulls(PLAN, look_up=workflow.is_main_process)
except UserError as error:
    raise WorkflowError(str(error))

RESULTS = PLAN.results
KINDS = kinds()  # of stages
# Globals, not params: these change no number, so changing them must rerun nothing.
ROBUSTPRUNE = f"{shlex.quote(sys.executable)} -m robustprune"
RUN = f"{ROBUSTPRUNE} run {CONFIG.execution.flags()}"
put_into_environment(CONFIG.shared_stores)

# `cores: all` is meant for jobs on this machine; it must not cut the threads of those that run on others.
if workflow.nodes is not None:
    workflow.global_resources["_cores"] = sys.maxsize

# Copies come whole, as whoever is killed in the middle leaves none.
COPY = 'copy() { cp "$1" "$2.part" && mv "$2.part" "$2"; }; copy'


wildcard_constraints:
    id=ID_PATTERN,
    start=r"\d+",
    stop=r"\d+",


def upstream(wildcards):
    """The records of the stages that one reads. Ancient: ids, not times, say what is up to date."""
    try:
        return [ancient(str(record)) for record in PLAN.upstream_records(wildcards.id)]
    except UserError as error:
        raise WorkflowError(str(error))


def parts(wildcards):
    """What marks the parts of a stage as computed; nothing where the stage is one job.

    A job's own Snakemake knows the size of pools that were made meanwhile, and so of parts that nobody was asked for.
    """
    directory = PLAN.directory(wildcards.id)
    markers = [part_marker(directory, rows) for rows in PLAN.parts(wildcards.id)]
    asked_for = workflow.is_main_process
    return [ancient(str(one)) for one in markers if asked_for or one.exists()]


def resource(name):
    """How much of a resource a stage's job asks for."""
    return lambda wildcards: getattr(PLAN.resources(wildcards.id), name)


def growing(name):
    """The same, and more on each attempt."""
    return lambda wildcards, attempt: resource(name)(wildcards) * attempt


def behind(target):
    """The directory of the configured preset's stage behind a file such as results/table1.csv."""
    try:
        *_, stage = stages_of_target(PLAN, target)
    except UserError as error:
        raise WorkflowError(str(error))
    return PLAN.directory(stage)


def table_of_target(wildcards):
    """A table's files, which those that people ask for are copies of."""
    directory = behind(f"results/{wildcards.target}.csv")
    return [directory / f"table.{ending}" for ending in ("csv", "md", "tex")]


# The names of figures, so that the data beside a figure are not taken for a table; where there is none, what never is.
FILES = [target.removeprefix("results/") for target in [*PLAN.targets, *PLAN.problems]]
FIGURES = [re.escape(file[:-4]) for file in FILES if file.endswith(".svg")]
FIGURE = "|".join(FIGURES) or "(?!)"


def figure_of_target(wildcards):
    """The configured preset's figure behind a file people ask for."""
    directory = behind(f"results/{wildcards.figure}.svg")
    return [directory / file for file in ("figure.svg", "figure.csv", "caption.md")]
