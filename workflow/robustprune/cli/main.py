"""The command line: ``robustprune run``, ``plan``, ``calibrate``, ``show`` and ``store``."""

import argparse
import errno
import logging
import os
import re
import select
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import yaml
from pydantic import ValidationError

from robustprune.core.errors import Interrupted, UserError
from robustprune.core.execution import Execution
from robustprune.core.locations import shared_from_environment

if TYPE_CHECKING:
    from robustprune.planning.config import Config
    from robustprune.planning.plan import Plan

logger = logging.getLogger("robustprune")
NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # full disk, full quota, limit on the size of a file
NO_PERMISSION = (errno.EACCES, errno.EPERM, errno.EROFS)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code.

    It is 0; 2 for something the user can put right; 75 when interrupted, try again; 1 for all else.
    """
    options = _parser().parse_args(arguments)
    try:
        _log_to(getattr(options, "log", None))
        options.command(options)
        sys.stdout.flush()
    except (UserError, Interrupted) as error:
        logger.error("%s", error)
        return error.exit_code
    except Exception as error:
        if isinstance(error, BrokenPipeError) and _reader_is_gone():
            # What is buffered yet must go somewhere, or Python complains at its end.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        elif isinstance(error, OSError) and error.errno in NO_SPACE:
            logger.error("disk full: %s; free some space and rerun the same command to resume", error)
        elif isinstance(error, OSError) and error.errno in NO_PERMISSION:
            logger.error("no permission: %s", error)
            return UserError.exit_code
        else:
            logger.exception("unexpected error")  # to the log file, too
        return 1
    return 0


def _reader_is_gone() -> bool:
    """Return True if nobody reads our output any more, as of ``robustprune plan | head``, which is no error."""
    poll = select.poll()
    poll.register(sys.stdout, 0)
    return any(event & select.POLLERR for _, event in poll.poll(0))


Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="robustprune", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_run(commands)
    _add_plan(commands)
    _add_claims(commands)
    _add_calibrate(commands)
    _add_show(commands)
    store = commands.add_parser("store", help="look after stores of scores and recorded epochs, and share scores")
    _add_store_actions(store.add_subparsers(required=True, metavar="ACTION"))
    return parser


def _add_run(commands: "Commands") -> None:
    run = commands.add_parser("run", help="do one stage, from where an earlier attempt stopped")
    run.add_argument("spec", type=Path, help="a stage's spec.json, or its directory")
    _add_execution(run, "device", "batch_size", "checkpoint_seconds", "processes", "compile")
    run.add_argument(
        "--rows", type=_rows, metavar="START:STOP", help="compute these rows only, as one of several jobs of the stage"
    )
    run.add_argument("--log", type=Path, help="also write the log to this file")
    run.set_defaults(command=_run)


def _add_plan(commands: "Commands") -> None:
    plan = commands.add_parser("plan", help="say which stages targets need, what would run, and what that costs")
    plan.add_argument(
        "targets", nargs="*", metavar="TARGET", help="a file such as results/table1.csv, or a stage id; all by default"
    )
    _add_config(plan)
    plan.add_argument("--write", action="store_true", help="put their spec.json in place, for 'robustprune run'")
    plan.add_argument("--decide", action="store_true", help="say how many seeds would decide claims, and their cost")
    plan.set_defaults(command=_plan)


def _add_claims(commands: "Commands") -> None:
    claims = commands.add_parser("claims", help="list what became of the papers' claims, in Markdown")
    _add_config(claims)
    claims.set_defaults(command=_claims)


def _add_calibrate(commands: "Commands") -> None:
    calibrate = commands.add_parser(
        "calibrate", help="measure how fast this machine is with the configured networks, for 'robustprune plan'"
    )
    _add_config(calibrate)
    _add_execution(calibrate, "device")
    calibrate.add_argument(
        "--seconds", type=float, default=2.0, help="for each batch size and kind of pass (default: %(default)s)"
    )
    calibrate.set_defaults(command=_calibrate)


def _add_show(commands: "Commands") -> None:
    show = commands.add_parser("show", help="show a stage directory or a table, or compare two")
    show.add_argument(
        "path", type=Path, help="a stage's directory, or a table's CSV file; with OTHER, a manifest or pool"
    )
    show.add_argument("other", type=Path, nargs="?", metavar="OTHER", help="a manifest or pool to compare with")
    show.set_defaults(command=_show)


def _add_store_actions(actions: "Commands") -> None:
    verify = actions.add_parser("verify", help="read stores back, every byte of them, and name what is wrong")
    verify.add_argument("path", help="a store's folder (*.zarr), the directory of a stage, or a place of shared stores")
    verify.set_defaults(command=_verify)

    publish = actions.add_parser("publish", help="put the scores of complete stages where other teams find them")
    publish.add_argument("paths", nargs="+", type=Path, metavar="STAGE", help="directory of a score stage")
    publish.add_argument("--to", metavar="PLACE", help="folder or s3://bucket/prefix (default: publish of the config)")
    publish.add_argument("--licence", help="a line on what the scores may be used for (default: by their pool)")
    publish.set_defaults(command=_publish)

    pull = actions.add_parser("pull", help="bring a shared score here, checked")
    pull.add_argument("what", metavar="STAGE", help="an id that 'list' prints, or the spec.json of a planned stage")
    pull.add_argument("--to", type=Path, metavar="FOLDER", help="where to put it; not for a planned stage")
    pull.add_argument("--log", type=Path, help="also write the log to this file")
    pull.set_defaults(command=_pull)

    listing = actions.add_parser("list", help="list the shared scores")
    listing.add_argument("places", nargs="*", metavar="PLACE", help="(default: shared_stores of the config)")
    listing.set_defaults(command=_list)
    for action in (publish, pull, listing):
        _add_config(action)
    pull.add_argument(
        "--from", dest="places", action="append", metavar="PLACE", help="(default: shared_stores of the config)"
    )


def _add_execution(parser: argparse.ArgumentParser, *names: str) -> None:
    """Add options for settings of ``Execution``, and for the CPU threads."""
    for name in names:
        field = Execution.model_fields[name]
        help_text = f"{field.description} (default: %(default)s)"
        parser.add_argument(
            f"--{name.replace('_', '-')}", type=type(field.default), default=field.default, help=help_text
        )
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (default: %(default)s)")


def _add_config(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--configfile",
        type=Path,
        default=Path("config.yaml"),
        help="another file is put over config.yaml, as Snakemake does (default: %(default)s)",
    )
    parser.add_argument("--config", nargs="+", default=[], metavar="KEY=VALUE", help="override keys, e.g. preset=mnist")


def _run(options: argparse.Namespace) -> None:
    from robustprune.core.job import run_part, run_stage  # imports torch, which planning does not need

    execution = _execution(options)
    if options.threads < 1:
        raise UserError(f"--threads {options.threads}: should be at least 1")
    live = sys.stderr.isatty() and options.log is None
    if options.rows is None:
        run_stage(options.spec, execution, threads=options.threads, live=live)
    else:
        run_part(options.spec, options.rows, execution, threads=options.threads, live=live)


def _execution(options: argparse.Namespace) -> Execution:
    settings = {name: value for name, value in vars(options).items() if name in Execution.model_fields}
    try:
        return Execution.model_validate(settings)
    except ValidationError as error:
        problem = error.errors()[0]
        option = str(problem["loc"][0]).replace("_", "-")
        raise UserError(f"--{option} {problem['input']}: {problem['msg']}") from None


def _rows(text: str) -> range:
    match = re.fullmatch(r"(\d+):(\d+)", text)
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r} should be START:STOP, e.g. 0:1048576")
    return range(int(match[1]), int(match[2]))


def _plan(options: argparse.Namespace) -> None:
    from robustprune.cli.plan_view import describe_plan
    from robustprune.planning.plan import stages_of_targets
    from robustprune.sharing.lookup import with_pulls

    plan = with_pulls(_configured_plan(options))
    if options.decide:
        from robustprune.cli.verdicts import describe_decision

        print(describe_decision(plan, options.targets, lambda config: with_pulls(_planned(config))))
        return
    description = describe_plan(plan, options.targets)
    if options.write:
        plan.write_specs(stages_of_targets(plan, options.targets))
    print(description)


def _claims(options: argparse.Namespace) -> None:
    from robustprune.cli.verdicts import describe_claims

    print(describe_claims(_configured_plan(options)))


def _calibrate(options: argparse.Namespace) -> None:
    from robustprune.core.device import describe, prepare_device
    from robustprune.planning.calibration import calibrate
    from robustprune.planning.throughput import add_rates

    if options.threads < 1 or not options.seconds >= 0:
        raise UserError(
            f"--threads {options.threads} --seconds {options.seconds}: should be at least 1, and at least 0"
        )
    execution = _execution(options)
    plan = _configured_plan(options)
    device = prepare_device(execution.device, threads=options.threads)
    rates = calibrate(plan, device, batch_size=plan.config.execution.batch_size, seconds=options.seconds)
    path = add_rates(plan.results.parent, describe(device), rates)
    print(f"{len(rates)} networks on {describe(device)}, written to {path}")


def _configured_plan(options: argparse.Namespace) -> "Plan":
    return _planned(_config(options))


def _planned(config: "Config") -> "Plan":
    from robustprune.experiments.papers import load_experiments, load_figures
    from robustprune.planning.plan import make_plan

    return make_plan(config, load_experiments(), load_figures(), quality=True, page=True)


def _show(options: argparse.Namespace) -> None:
    from robustprune.cli.show import describe_path
    from robustprune.core.paths import POOL_FILE
    from robustprune.images.duplicates import compare_pools
    from robustprune.pruning.overlap import compare_manifests

    if options.other is None:
        print(describe_path(options.path))
    elif (options.path / POOL_FILE).is_file():
        print(compare_pools(options.path, options.other))
    else:
        print(compare_manifests(options.path, options.other))


def _verify(options: argparse.Namespace) -> None:
    from robustprune.cli.verify import verify_path
    from robustprune.sharing.commands import is_place, verify_place

    print(verify_place(options.path) if is_place(options.path) else verify_path(Path(options.path)))


def _publish(options: argparse.Namespace) -> None:
    from robustprune.sharing.commands import publish

    to = options.to or _config(options).publish
    if to is None:
        raise UserError("no place to publish to: give --to PLACE, or set publish in config.yaml")
    print("\n".join(publish(options.paths, to, licence=options.licence)))


def _pull(options: argparse.Namespace) -> None:
    from robustprune.sharing.commands import pull, pull_planned

    of_job = shared_from_environment()  # in a job of Snakemake; it may be that there are none
    places = options.places or (_config(options).shared_stores if of_job is None else of_job)
    if options.to is None:
        pull_planned(Path(options.what), places)
    else:
        print(pull(options.what, places, options.to))


def _list(options: argparse.Namespace) -> None:
    from robustprune.sharing.commands import list_places

    print(list_places(options.places or _config(options).shared_stores))


def _config(options: argparse.Namespace) -> "Config":
    from robustprune.planning.config import read_config_file

    return read_config_file(options.configfile, _overrides(options.config))


def _overrides(pairs: Sequence[str]) -> dict[str, Any]:
    from robustprune.core.yaml_files import parse_yaml

    overrides: dict[str, Any] = {}
    for pair in pairs:
        key, separator, value = pair.partition("=")
        if not separator:
            raise UserError(f"--config {pair}: should be key=value, e.g. preset=mnist or 'seeds=[0, 1]'")
        if key in overrides:
            raise UserError(f"--config {pair}: {key} was given before")
        try:
            overrides[key] = parse_yaml(value)
        except yaml.YAMLError as error:
            problem = getattr(error, "problem", None) or "it cannot be read"
            raise UserError(f"--config {pair}: {value!r} is not valid YAML: {problem}") from None
    return overrides


def _log_to(file: Path | None) -> None:
    handlers: list[logging.Handler] = [logging.StreamHandler()]
    if file is not None:
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            handlers.append(logging.FileHandler(file))
        except OSError as error:
            raise UserError(f"--log {file}: {error.strerror}") from None
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S", handlers=handlers)
