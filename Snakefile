# Which images should a robust model be trained on, and how hard should each be attacked?
#
# results/table1.csv                          the headline table of the configured preset
# results/report.html                         a page of it: what pruning drops, and how it was made
# results/<preset>/<kind>/<id>/               one directory a stage; its id is the hash of all that decides its numbers
#
# The plan (workflow/robustprune/planning) knows which stages there are; the rules say how a stage is run.
import os
import shlex
import sys
from pathlib import Path

from snakemake.exceptions import WorkflowError
from snakemake.logging import logger
from snakemake.utils import min_version

min_version("9.20")


# This checkout's package, in jobs, too, even where another checkout's is installed.
PACKAGE = str(Path(workflow.basedir) / "workflow")
sys.path.insert(0, PACKAGE)
os.environ["PYTHONPATH"] = os.pathsep.join(
    filter(None, [PACKAGE, os.environ.get("PYTHONPATH")])
)

from robustprune.core.paths import CONFIG_FILE
from robustprune.core.yaml_files import read_yaml
from robustprune.core.errors import UserError

# Snakemake's own words on a broken or an empty file name neither it nor a line.
try:
    if CONFIG_FILE.is_file() and not read_yaml(CONFIG_FILE):
        raise UserError(f"{CONFIG_FILE} has no key; keep at least its preset")
except UserError as error:
    raise WorkflowError(str(error))


configfile: "config.yaml"


report: "workflow/report/workflow.rst"


include: "workflow/rules/common.smk"
include: "workflow/rules/stages.smk"
include: "workflow/rules/targets.smk"


# Only what is about to run gets a directory.
onstart:
    jobs = workflow.dag.needrun_jobs()
    PLAN.write_specs(
        {job.wildcards.id for job in jobs if "id" in job.wildcards.keys()}
    )


def all_targets(_):
    """What can be made, with a word on each that cannot."""
    for target, why in PLAN.problems.items():
        logger.warning(f"left out: {target} cannot be made: {why}")
    return list(PLAN.targets)


rule all:
    default_target: True
    input:
        all_targets,
