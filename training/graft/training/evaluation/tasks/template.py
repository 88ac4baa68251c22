"""Templates that hold ``{{field}}``, ``{{a.b}}``, ``{{choices[label]}}`` and ``{{[a, b]}}``: what task files need
mostly, and no code. Anything else between braces is refused by name.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_MARK = re.compile(r"\{[{%#]")
MAX_FIELD_CHARACTERS = 500
_WORD = r"[^\W\d]\w*"
_STEP = rf"(?:\.(?!strip\(\)){_WORD}|\[(?:\d+|'[^'\]]*'|\"[^\"\]]*\"|{_WORD}(?:\.{_WORD})*)\])"
_PATH = re.compile(rf"\s*({_WORD})((?:{_STEP})*)(\.strip\(\)|\s*\|\s*trim)?\s*")
_STEPS = re.compile(_STEP)
_METHODS = frozenset({"get", "items", "keys", "values"})
"""What a dot finds of a mapping in Jinja before the key of that name."""


class BadTemplate(ValueError):
    """What cannot be filled in, or a field that is not there."""


@dataclass(frozen=True, kw_only=True)
class _Part:
    """A field's path; ``several`` are a list's elements."""

    source: str
    name: str = ""
    steps: tuple[str, ...] = ()
    is_trimmed: bool = False
    several: tuple[_Part, ...] = ()

    @property
    def is_name(self) -> bool:
        return not (self.steps or self.is_trimmed or self.several)

    @property
    def jinja(self) -> str:
        """The expression that Jinja reads the same of."""
        if self.several:
            return f"[{', '.join(part.jinja for part in self.several)}]"
        return self.name + "".join(map(_jinja_step, self.steps)) + (" | trim" if self.is_trimmed else "")


@dataclass(frozen=True, kw_only=True)
class Template:
    """Texts and fields in turn."""

    parts: tuple[str | _Part, ...]
    source: str = ""

    @property
    def names(self) -> frozenset[str]:
        """The fields that it begins from."""
        return frozenset(field.name for field in self._fields)

    @property
    def sources(self) -> frozenset[str]:
        """``names``, and the fields that say which of a list's elements is taken."""
        keys = [step[1:-1] for field in self._fields for step in field.steps if step.startswith("[")]
        words = [key.split(".")[0] for key in keys if not (key.isdigit() or key[:1] in "'\"")]
        return self.names.union(words)

    @property
    def shown(self) -> frozenset[str]:
        """The fields that stand in it as they are, whole."""
        return frozenset(field.name for field in self._fields if not field.steps)

    def below(self, name: str, *, whole: bool = False) -> frozenset[str]:
        """Of a field the keys that it reads: ``answer`` of ``{{item.answer}}``. ``whole``: no part of theirs alone."""
        fields = [field for field in self._fields if field.name == name and field.steps]
        steps = [field.steps[0] for field in fields if not whole or len(field.steps) == 1]
        return frozenset(step.strip("[].").strip("'\"") for step in steps)

    @property
    def _fields(self) -> list[_Part]:
        fields = [part for part in self.parts if isinstance(part, _Part)]
        return [one for field in fields for one in (field.several or (field,))]

    @property
    def is_plain(self) -> bool:
        """Whether ``{{name}}`` is all that it holds: no path, no filter, and no brace or backslash that would have to
        be told from a field's.
        """
        return all(
            part.is_name if isinstance(part, _Part) else not ("{{" in part or part.endswith("\\"))
            for part in self.parts
        )

    @property
    def mustache(self) -> str:
        """As prompt programs hold it by default. Only where it is plain."""
        return "".join(part if isinstance(part, str) else f"{{{{{part.name}}}}}" for part in self.parts)

    @property
    def jinja(self) -> str:
        """As prompt programs hold it with ``template_format`` jinja2."""
        return "".join(
            _MARK.sub(lambda mark: f"{{{{ '{mark[0]}' }}}}", part)
            if isinstance(part, str)
            else f"{{{{ {part.jinja} }}}}"
            for part in self.parts
        )

    def fill(self, values: Mapping[str, Any]) -> str:
        """The text. Raises ``BadTemplate`` naming a field that is missing."""
        return "".join(part if isinstance(part, str) else text_of(_value(part, values)) for part in self.parts)

    def pieces(self, values: Mapping[str, Any], *, answer: str) -> tuple[str | None, ...]:
        """As ``fill``, with None where the field ``answer`` (such as ``sample.output_text``) stands."""
        return tuple(
            part if isinstance(part, str) else None if part.source == answer else text_of(_value(part, values))
            for part in self.parts
        )

    def value(self, values: Mapping[str, Any]) -> Any:
        """The value itself where the template is one field and nothing else; else the text."""
        if len(self.parts) == 1 and isinstance(self.parts[0], _Part):
            return _value(self.parts[0], values)
        return self.fill(values)


def parse(source: str) -> Template:
    """Reads a template. Raises ``BadTemplate`` with the part that is not supported."""
    parts: list[str | _Part] = []
    at = 0
    while (mark := _MARK.search(source, at)) is not None:
        begin = mark.start()
        end = source.find("}}", begin)
        if not source.startswith("{{", begin):
            raise BadTemplate(f"`{source[begin : begin + 40]}` is not supported; use {{{{field}}}}.")
        if end < 0:
            break
        parts += [source[at:begin], _part(source[begin + 2 : end])]
        at = end + 2
    parts.append(source[at:])
    return Template(parts=tuple(part for part in parts if part != ""), source=source)


def text_of(value: Any) -> str:
    """As it stands in a prompt."""
    return value if isinstance(value, str) else str(value)


def _jinja_step(step: str) -> str:
    word, inner = step[1:], step[1:-1]
    if step.startswith("."):
        return f"[{word!r}]" if word in _METHODS else step
    return f"[{inner[1:-1]!r}]" if inner[:1] in ("'", '"') else step


def _part(source: str) -> _Part:
    source = source.removeprefix("-").removesuffix("-")
    inner = source.strip()
    if len(inner) > MAX_FIELD_CHARACTERS:
        raise BadTemplate(f"`{{{{{inner[:60]}…` is not supported; use {{{{field}}}}.")
    if inner.startswith("[") and inner.endswith("]"):
        several = tuple(_part(one) for one in inner[1:-1].split(",") if one.strip())
        if several and not any(part.several for part in several):
            return _Part(source=inner, several=several)
    path = _PATH.fullmatch(source)
    if path is None:
        raise BadTemplate(f"`{{{{{inner[:60]}}}}}` is not supported; use {{{{field}}}} or {{{{choices[label]}}}}.")
    return _Part(source=inner, name=path[1], steps=tuple(_STEPS.findall(path[2])), is_trimmed=bool(path[3]))


def _value(part: _Part, values: Mapping[str, Any]) -> Any:
    if part.several:
        return [_value(one, values) for one in part.several]
    if part.name not in values:
        raise BadTemplate(
            f"there is no field `{part.name}`; there are {', '.join(sorted(map(str, values))) or 'none'}."
        )
    found: Any = values[part.name]
    for step in part.steps:
        found = _at(found, _key(step, values), part.source)
    return found.strip() if part.is_trimmed and isinstance(found, str) else found


def _key(step: str, values: Mapping[str, Any]) -> Any:
    if step.startswith("."):
        return step[1:]
    inner = step[1:-1]
    if inner.isdigit():
        return int(inner)
    if inner[:1] in "'\"":
        return inner[1:-1]
    name, *rest = inner.split(".")
    if name not in values:
        raise BadTemplate(f"there is no field `{name}`; there are {', '.join(sorted(map(str, values))) or 'none'}.")
    found = values[name]
    for key in rest:
        found = _at(found, key, inner)
    return found


def _at(found: Any, key: Any, source: str) -> Any:
    if isinstance(found, Mapping) and str(key) in found:
        return found[str(key)]
    if isinstance(found, Sequence) and not isinstance(found, str) and str(key).lstrip("-").isdigit():
        index = int(key)
        if -len(found) <= index < len(found):
            return found[index]
    raise BadTemplate(f"`{{{{{source}}}}}` has no `{key}`.")
