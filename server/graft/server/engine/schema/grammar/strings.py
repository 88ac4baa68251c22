"""Strings and names of properties as terminals of the grammar: what stands between the quotes, and the quotes."""

from __future__ import annotations

import json
import re

from graft.server.engine.schema.patterns.dialect import plain
from graft.server.engine.schema.patterns.patterns import fault, is_empty, string_schema
from graft.server.engine.schema.reading.shapes import String, smaller
from graft.server.engine.schema.reading.values import compact
from graft.server.engine.schema.refusal import SchemaRefused

# One character of a JSON string; each has one spelling only, so that a text can be forbidden by its spelling.
_CHARACTER = r'(?:[^"\\\x00-\x1f\x7f]|\\["\\bfnrt])'
_PLAIN = r"[ !#-\[\]-~]"  # what needs no escape, in ASCII
_LONGEST = 100_000
_FORMAT_LENGTHS = {"date-time": 35, "time": 25, "duration": 24, "email": 64, "hostname": 64, "uri": 120}


def literal(text: str) -> str:
    """A text as a literal of the grammar."""
    return json.dumps(text, ensure_ascii=False)


def more(item: str, low: int, high: int) -> str:
    """Between `low` and `high` further items, each after a comma; empty for none."""
    return f' ("," {item}){{{low},{high}}}' if high > 0 else ""


def nested(string: String, high: int) -> str | None:
    """A string with patterns or formats, as a nested JSON schema; None where nothing fits.

    `high` bounds its length where the schema does not; a pattern that needs more gets more.
    """
    own = min((_FORMAT_LENGTHS[name] for name in string.formats if name in _FORMAT_LENGTHS), default=high)
    wished = min(string.max_length if string.max_length is not None else own, max(high, string.min_length))
    for bound in dict.fromkeys(smaller(limit, string.max_length) for limit in (wished, 4 * wished, _LONGEST)):
        schema = string_schema(string.patterns, string.formats, string.min_length, bound)
        if not fault(f"start: %json {schema}"):
            return f"%json {schema}"
    return None


def terminal(string: String, high: int) -> str | None:
    """A string as a terminal's body; None where nothing fits. Raises `SchemaRefused` for what no terminal can say."""
    upper = max(high, string.min_length) if string.max_length is None else min(string.max_length, 1_000_000)
    upper = min(upper, max(high, string.min_length))
    if not string.patterns and not string.not_patterns and not string.formats:
        body = _slashed(f'"{_CHARACTER}{{{string.min_length},{upper}}}"')
        return " & ".join([body, *(f"~{literal(compact(text))}" for text in sorted(string.excluded))])
    parts = [_slashed(f"{_PLAIN}{{{string.min_length},{upper}}}")]
    if string.formats:
        raise SchemaRefused("a `format` beside what a string must not be is not enforced; say it as `pattern`")
    parts += [_slashed(_whole(pattern)) for pattern in string.patterns]
    parts += [f"~{_slashed(_whole(pattern))}" for pattern in string.not_patterns]
    parts += [f"~{literal(text)}" for text in sorted(string.excluded) if text]
    if "" in string.excluded:
        parts.append("/(?s:.+)/")
    body = " & ".join(parts)
    tried = f"start: S\nS: {body}"
    return None if fault(tried) or is_empty(tried) else f'"\\"" ({body}) "\\""'


def _slashed(regex: str) -> str:
    """A regular expression between slashes, as the grammar has it."""
    return "/" + re.sub(r"\\.|/", lambda found: found[0] if found[0] != "/" else r"\/", regex, flags=re.DOTALL) + "/"


def _whole(pattern: str) -> str:
    """The pattern as an expression of the whole text, though it is only searched for."""
    return "|".join(_anchored(choice, pattern) for choice in _choices(plain(pattern)))


def _anchored(choice: str, pattern: str) -> str:
    start, end = choice.startswith("^"), bool(re.search(r"(?<!\\)(?:\\\\)*\$$", choice))
    inner = choice[1 if start else 0 : -1 if end else len(choice)]
    bare = re.sub(r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]", "", inner, flags=re.DOTALL)
    if "^" in bare or "$" in bare or re.search(r"\\[bBAzZ]", inner):
        raise SchemaRefused(
            f"`{pattern[:80]}` has an anchor inside, which is not enforced beside a `not`; write it out"
        )
    any_text = "(?s:.*)"
    return f"{'' if start else any_text}(?:{inner}){'' if end else any_text}"


def _choices(pattern: str) -> list[str]:
    """The alternatives at the top of a pattern."""
    found, depth, begin, in_class, index = [], 0, 0, False, 0
    while index < len(pattern):
        character = pattern[index]
        if character == "\\":
            index += 1
        elif in_class:
            in_class = character != "]"
        elif character == "[":
            in_class = True
        elif character in "()":
            depth += 1 if character == "(" else -1
        elif character == "|" and depth == 0:
            found.append(pattern[begin:index])
            begin = index + 1
        index += 1
    return [*found, pattern[begin:]]
