"""Which versions of which algorithms decide a stage's numbers, derived from the imports of the code that it runs.

A module whose code decides numbers says so in a line ``DEFINITION = {"margins.deepfool": 2}``: a name that stays when
the file moves, and a version that is raised when numbers move. A stage's definitions are those of the modules that
declare the stage's class and the settings that it holds, and of all that these import; but not of another stage's
class, which they import to plan it: what it makes has an id of its own. Everything is read as text: a plan of thousands
of stages imports no torch.
"""

import ast
import re
from collections.abc import Iterable
from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]
_DEFINITION = re.compile(r"^DEFINITION = (\{.*?\})$", re.MULTILINE | re.DOTALL)
_IMPORT = re.compile(r"^[ ]*from (robustprune[\w.]*) import (\([^)]*\)|[^\n]*)$", re.MULTILINE)
_TYPE_CHECKING = re.compile(r"^if TYPE_CHECKING:.*\n(?:(?:[ ]+.*)?\n)*", re.MULTILINE)


def definitions_of(modules: Iterable[str]) -> dict[str, int]:
    """Return the version of each definition in ``modules``, full names, and in all that these import, by name."""
    versions: dict[str, int] = {}
    for module in sorted(set().union(*(_closure(module) for module in modules))):
        for name, version in stated_in(module).items():
            if versions.setdefault(name, version) != version:
                raise LookupError(f"{name} has the versions {versions[name]} and {version}, one of them in {module}")
    return versions


@cache
def modules_in(folder: str) -> tuple[str, ...]:
    """Return the full names of all modules below a package of this project, sorted, without importing any."""
    root = PACKAGE.joinpath(*folder.split(".")[1:])
    files = sorted(path.relative_to(PACKAGE.parent).with_suffix("") for path in root.rglob("*.py"))
    return tuple(".".join(file.parts) for file in files if file.name != "__init__")


@cache
def source_of(module: str) -> str:
    """Return the text of a module. Raises LookupError where there is none of that name."""
    path = _path(module)
    if path is None:
        raise LookupError(f"there is no module {module}")
    return path.read_text()


@cache
def _closure(module: str) -> frozenset[str]:
    """Return ``module`` and all modules of the package that it imports, however far below."""
    seen, waiting = {module}, [module]
    while waiting:
        new = _imports(waiting.pop()) - seen
        seen |= new
        waiting += new
    return frozenset(seen)


@cache
def _imports(module: str) -> frozenset[str]:
    """Return the modules of the package that a module imports anywhere, but for types alone."""
    text = _TYPE_CHECKING.sub("", source_of(module))
    types = _names_of_types(text)
    imported = set()
    for package, names in _IMPORT.findall(text):
        for name in re.findall(r"(\w+)(?: as \w+)?", re.sub(r"#.*", "", names)):
            below = f"{package}.{name}"
            if name not in types and not name.endswith("Stage"):
                imported.add(below if _path(below) is not None else package)
    return frozenset(imported - {module})


def _names_of_types(text: str) -> frozenset[str]:
    """Return the names that only annotations use.

    Settings decide numbers where a stage holds them, and are counted there; as types of fields, or of arguments, they
    decide nothing.
    """
    nodes = list(ast.walk(ast.parse(text)))
    annotations = [node.annotation for node in nodes if isinstance(node, ast.AnnAssign | ast.arg)]
    annotations += [node.returns for node in nodes if isinstance(node, ast.FunctionDef)]
    typed = [name for root in annotations if root is not None for name in ast.walk(root) if isinstance(name, ast.Name)]
    in_annotations = {id(name) for name in typed}
    used = {node.id for node in nodes if isinstance(node, ast.Name) and id(node) not in in_annotations}
    return frozenset({name.id for name in typed} - used)


@cache
def stated_in(module: str) -> dict[str, int]:
    """Return the definitions that a module states itself."""
    match = _DEFINITION.search(source_of(module))
    return {} if match is None else dict(ast.literal_eval(match[1]))


@cache
def _path(module: str) -> Path | None:
    """Return the file of a module of this package; None where there is none."""
    path = PACKAGE.joinpath(*module.split(".")[1:])
    candidates = (path.with_suffix(".py"), path / "__init__.py") if path != PACKAGE else (path / "__init__.py",)
    return next((file for file in candidates if file.is_file()), None)
