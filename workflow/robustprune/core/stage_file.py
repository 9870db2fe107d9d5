"""Reading and writing spec.json, the file that says all a stage needs to run."""

import json
from pathlib import Path

from pydantic import ValidationError

from robustprune.core.errors import UserError
from robustprune.core.files import write_text
from robustprune.core.paths import SPEC_FILE
from robustprune.core.registry import stage_from
from robustprune.core.stage import Stage, hash_of, slug_of


def write_spec(path: Path, spec: Stage) -> None:
    """Write ``spec`` to ``path`` unless it is there already."""
    content = {"id": spec.id, "definitions": spec.definitions, "spec": spec.model_dump(mode="json")}
    text = json.dumps(content, indent=2) + "\n"
    if not path.is_file() or path.read_text() != text:
        write_text(path, text)


def read_spec(path: Path, *, made: bool = False) -> Stage:
    """Return the spec in a file, or in a stage's directory.

    Raises UserError when it is missing, malformed, or not of its id under the installed definitions; where only what
    was ``made`` is looked at, under the definitions that the file states.
    """
    if path.is_dir():
        path = path / SPEC_FILE
    if not path.is_file():
        raise UserError(
            f"{path} does not exist; 'robustprune plan --write' puts the spec of every planned stage in place"
        )
    try:
        content = json.loads(path.read_text())
        spec = stage_from(content["spec"])
        stated, definitions = content["id"], content["definitions"] if made else spec.definitions
        own = f"{slug_of(stated)}-{hash_of(content['spec'], definitions)}" if made else spec.id
    except ValidationError as error:
        problem = error.errors()[0]
        key = ".".join(str(part) for part in problem["loc"])
        raise UserError(f"{path}: {key} = {problem['input']!r}: {problem['msg']}") from None
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise UserError(f"{path} is not a stage's spec ({type(error).__name__}: {error})") from None
    if own != stated or path.absolute().parent.name != stated:
        code = "its own" if made else "the installed"
        raise UserError(
            f"{path} lies in {path.absolute().parent.name} and states the id {stated}, but its content has the "
            f"id {own} under {code} definitions ({definitions}); plan again"
        )
    return spec
