"""Reading and writing spec.json, the file that says all a stage needs to run."""

import json
from pathlib import Path

from pydantic import ValidationError

from robustprune.errors import UserError
from robustprune.files import write_text
from robustprune.paths import SPEC_FILE
from robustprune.specs import SPEC_ADAPTER, Spec


def write_spec(path: Path, spec: Spec) -> None:
    """Write ``spec`` to ``path`` unless it is there already."""
    content = {"id": spec.id, "definitions": spec.definitions, "spec": spec.model_dump(mode="json")}
    text = json.dumps(content, indent=2) + "\n"
    if not path.is_file() or path.read_text() != text:
        write_text(path, text)


def read_spec(path: Path) -> Spec:
    """The spec in ``path``.

    Raises:
        UserError: when the file is missing, malformed, or not what this version of the code would run under that id.
    """
    if path.is_dir():
        path = path / SPEC_FILE
    if not path.is_file():
        raise UserError(
            f"{path} does not exist; 'robustprune plan --write' puts the spec of every planned stage in place"
        )
    try:
        content = json.loads(path.read_text())
        spec = SPEC_ADAPTER.validate_python(content["spec"])
        stated = content["id"]
    except ValidationError as error:
        problem = error.errors()[0]
        key = ".".join(str(part) for part in problem["loc"])
        raise UserError(f"{path}: {key} = {problem['input']!r}: {problem['msg']}") from None
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError) as error:
        raise UserError(f"{path} is not a stage's spec ({type(error).__name__}: {error})") from None
    if spec.id != stated or path.absolute().parent.name != stated:
        raise UserError(
            f"{path} lies in {path.absolute().parent.name} and states the id {stated}, but its content has the "
            f"id {spec.id} under the installed code (definitions {spec.definitions}); plan again"
        )
    return spec
