"""Texts with `{{ item.answer }}` and `{{ sample.output_text }}` in them, as OpenAI's graders have them.

A path begins with `item` or `sample` and goes on by `.name`, `.0`, `[0]` or `["name"]`. What a value holds is never
read as a template.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from graft.server.runtime.json_values import json_text
from graft.server.runtime.violations import shown

MAX_PLACES = 1_000
MAX_WRITTEN_CHARACTERS = 1_000_000
"""Of one text."""
MAX_ALL_CHARACTERS = 4_000_000
"""Of all texts that are written of one answer: graders may be many, and each may name what is long."""
# Longer ones are read anew each time, so that none is kept for those who will not come back.
_CACHED_CHARACTERS = 4_000
NAMESPACES = ("item", "sample")
SAMPLE_NAMES = frozenset({"choices", "output_json", "output_text", "output_tools"})

_OPENING = re.compile(r"\{\{(.*?)(\}\}|\Z)", re.DOTALL)
_PATH = re.compile(r"""[^\W\d]\w*(?:\.[\w-]+|\[\d{1,6}\]|\["[^"\]]*"\]|\['[^'\]]*'\])*""")
_STEP = re.compile(r"""\.?([\w-]+)|\[(\d+)\]|\["([^"\]]*)"\]|\['([^'\]]*)'\]""")
_MAX_INDEX_DIGITS = 6

Path = tuple[str, ...]


class MissingValue(ValueError):
    """What a template names is not there: the path, and where it ends."""

    def __init__(self, message: str, path: Path) -> None:
        super().__init__(message)
        self.path = path


class TooLong(ValueError):
    """A text is longer than the limit when its values stand in it, or a value is nested too deeply to be written."""


class Room:
    """How many characters may still be written of one answer."""

    def __init__(self, num_characters: int = MAX_ALL_CHARACTERS) -> None:
        self._left = num_characters

    def take(self, num_characters: int) -> None:
        """Raises `TooLong`; whoever has been told so once has no room any more."""
        self._left -= num_characters
        if self._left < 0:
            raise TooLong(
                f"the graders' texts have more than {MAX_ALL_CHARACTERS} characters with their values in them"
            )


@dataclass(frozen=True, kw_only=True)
class Template:
    """A text that was read: words and paths in their order."""

    parts: tuple[str | Path, ...]

    @property
    def paths(self) -> tuple[Path, ...]:
        """What it names, each once, in the order of first use."""
        return tuple(dict.fromkeys(part for part in self.parts if not isinstance(part, str)))

    def write(self, values: Mapping[str, Any], room: Room | None = None) -> str:
        """The text with its values: texts as they are, anything else as JSON. It takes its part of `room`.

        Raises `MissingValue` for the first that is not there, and `TooLong`.
        """
        written: list[str] = []
        room, left = room or Room(), MAX_WRITTEN_CHARACTERS
        for part in self.parts:
            written.append(part if isinstance(part, str) else text_of(value_at(values, part)))
            room.take(len(written[-1]))
            left -= len(written[-1])
            if left < 0:
                raise TooLong(f"the text has more than {MAX_WRITTEN_CHARACTERS} characters with its values in it")
        return "".join(written)


def value_at(values: Mapping[str, Any], path: Path) -> Any:
    """Raises `MissingValue`."""
    value: Any = values
    for depth, step in enumerate(path):
        if isinstance(value, Mapping) and step in value:
            value = value[step]
        elif isinstance(value, Sequence) and not isinstance(value, str) and _is_index(step) and int(step) < len(value):
            value = value[int(step)]
        else:
            where = f": {'.'.join(path[:depth])} holds no {shown(step)}" if depth else ""
            raise MissingValue(f"{'.'.join(path)} is missing{where}", path)
    return value


def _is_index(step: str) -> bool:
    return step.isdecimal() and len(step) <= _MAX_INDEX_DIGITS


def text_of(value: Any) -> str:
    """As it stands in a text. Raises `TooLong`."""
    try:
        return value if isinstance(value, str) else json_text(value)
    except RecursionError:
        raise TooLong("a value is nested too deeply to be written") from None


def read_template(text: str, fault: Callable[[str], None]) -> Template:
    """`fault` is told each thing that is wrong."""
    template, faults = _read_before(text) if len(text) <= _CACHED_CHARACTERS else _read(text)
    for one in faults:
        fault(one)
    return template


def _read(text: str) -> tuple[Template, tuple[str, ...]]:
    parts: list[str | Path] = []
    faults: list[str] = []
    at = 0
    for opening in _OPENING.finditer(text):
        parts.append(text[at : opening.start()])
        at = opening.end()
        path = _path(opening[1].strip())
        problem = "`{{` is not closed by `}}`" if not opening[2] else _problem(opening[1].strip(), path)
        if problem is not None:
            faults.append(problem)
        parts.append(path)
        if len(parts) > 2 * MAX_PLACES:
            faults.append(f"names more than {MAX_PLACES} values: shorten it")
            break
    parts.append(text[at:])
    return Template(parts=tuple(part for part in parts if part)), tuple(faults)


_read_before = lru_cache(maxsize=256)(_read)


def _path(inside: str) -> Path:
    return tuple(next(filter(None, step.groups()), "") for step in _STEP.finditer(inside))


def _problem(inside: str, path: Path) -> str | None:
    if not _PATH.fullmatch(inside):
        return f"{shown('{{' + inside + '}}')} is no path: write {{{{ item.name }}}} or {{{{ sample.output_text }}}}"
    if path[0] not in NAMESPACES:
        return f"{shown(inside)} begins with {shown(path[0])}: a path begins with item or sample"
    if path[0] == "sample" and len(path) > 1 and path[1] not in SAMPLE_NAMES:
        return f"sample has no {shown(path[1])}: it has {', '.join(sorted(SAMPLE_NAMES))}"
    return None
