"""Lays the report out: one HTML page, with style, script and pictures in it."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import resources
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

DEFINITION = {"report.page": 3}

TEMPLATE, STYLE, SCRIPT = "report.html.jinja", "style.css", "explorer.js"


def render(content: Mapping[str, Any]) -> str:
    """The page; all text in ``content`` is escaped."""
    environment = Environment(
        loader=PackageLoader("robustprune", "report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"time": in_words, "number": "{:,}".format}
    files = resources.files("robustprune.report")
    template = environment.get_template(TEMPLATE)
    return template.render(
        style=files.joinpath(STYLE).read_text(), script=files.joinpath(SCRIPT).read_text(), **content
    )


def in_words(seconds: float) -> str:
    """A time for people: its two largest units."""
    if round(seconds, 1) < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours:,} h {minutes} min"
