"""The fields that other tools' files read by their templates, wherever in them these stand."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from graft.training.evaluation.tasks.template import BadTemplate, Template, parse


def templates_in(value: Any) -> Iterator[Template]:
    """Those of all texts below a value; ``item_reference`` is one without its braces."""
    if isinstance(value, Mapping):
        for key, one in value.items():
            is_reference = key == "item_reference" and isinstance(one, str)
            yield from templates_in(f"{{{{{one}}}}}" if is_reference else one)
    elif isinstance(value, list):
        for one in value:
            yield from templates_in(one)
    elif isinstance(value, str):
        try:
            yield parse(value)
        except BadTemplate:  # said with its line where the template is used
            return


def answer_fields(asked: Any, graded: Any) -> tuple[str, ...]:
    """The variables that templates below ``graded`` read, less those that templates below ``asked`` show whole."""
    read = {name for template in templates_in(graded) for name in template.sources}
    shown = {name for template in templates_in(asked) for name in template.shown}
    return tuple(sorted(read - shown))


def answer_fields_of_items(asked: Any, graded: Any) -> tuple[str, ...]:
    """As ``answer_fields``, of ``{{item.field}}``."""
    read = {name for template in templates_in(graded) for name in template.below("item")}
    shown = {name for template in templates_in(asked) for name in template.below("item", whole=True)}
    return tuple(sorted(read - shown))
