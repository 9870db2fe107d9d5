"""Read YAML files that people write, and put one over another."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from robustprune.core.errors import UserError

YAML_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # with libyaml, in a tenth of the time


def merge(base: Mapping[str, Any], override: Mapping[str, Any]) -> dict[str, Any]:
    """``base`` with the keys of ``override`` put over it, section by section; lists are replaced whole."""
    merged = dict(base)
    for key, value in override.items():
        old = merged.get(key)
        merged[key] = merge(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return merged


def with_nulls(values: Any) -> Any:
    """Return what Snakemake's ``--config`` gives, which reads null as a word, as YAML has it."""
    if isinstance(values, Mapping):
        return {key: with_nulls(value) for key, value in values.items()}
    return None if values == "null" else values


class _Loader(YAML_LOADER):  # type: ignore[misc, valid-type]  # one of two, by what is installed
    """Refuses a key that is written twice in a mapping, of which YAML would take the last without a word."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        twice = next((key for key in keys if keys.count(key) > 1 and key != "<<"), None)
        if twice is not None:
            raise yaml.MarkedYAMLError(problem=f"the key {twice} is written twice", problem_mark=node.start_mark)
        return dict(super().construct_mapping(node, deep))


def parse_yaml(text: str) -> Any:
    """Return what a text in YAML says. Raises yaml.YAMLError, also for a key that is written twice."""
    return yaml.load(text, _Loader)


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file. Raises UserError when it holds something else."""
    try:
        content = parse_yaml(path.read_text())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from None
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise UserError(f"{path} should hold keys and values, but holds a {type(content).__name__}")
    return content
