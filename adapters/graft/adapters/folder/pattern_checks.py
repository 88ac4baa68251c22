"""Which patterns of an adapter_config.json are evaluated at all: none that backtracks without bound."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from graft.adapters.errors import Reason
from graft.adapters.folder.peft_patterns import is_all_linear, mapping_of, names_of, of_key, of_layer

MAX_PATTERN_CHARACTERS = 4096
MAX_PATTERNS = 1024
"""Of one field. Each is compiled and tried on every module, here and in the engine, which meanwhile says nothing."""
MAX_PATTERNS_CHARACTERS = 1 << 16
"""Of all keys of one field together."""
_FILE = "adapter_config.json"


def pattern_reasons(config: Mapping[str, object]) -> Iterator[Reason]:
    """What keeps the keys of an adapter_config.json that name modules from being resolved at all."""
    for field in ("target_modules", "exclude_modules"):
        value = config.get(field)
        if isinstance(value, str) and value and not is_all_linear(field, value):
            yield from _reasons(field, value, value)
        elif not _is_names(value, may_miss=field == "exclude_modules") and not isinstance(value, str):
            yield Reason(field=f"{_FILE}:{field}", problem="must be a non-empty list of module names, or one pattern")
        elif value == "" and field == "target_modules":
            yield Reason(field=f"{_FILE}:{field}", problem="is empty; it must name modules")
    for field in ("rank_pattern", "alpha_pattern"):
        yield from _all_reasons(field, {key: of_key(key) for key in mapping_of(config, field)})
    layers = config.get("layers_to_transform")
    if layers is not None and not all(type(one) is int for one in names_of(layers)):
        yield Reason(field=f"{_FILE}:layers_to_transform", problem="must be a layer's number, or a list of them")
    patterns = config.get("layers_pattern")
    if not _is_names([patterns] if isinstance(patterns, str) and patterns else patterns or None, may_miss=True):
        yield Reason(field=f"{_FILE}:layers_pattern", problem="must be a pattern, or a list of them")
        return
    yield from _all_reasons("layers_pattern", {str(text): of_layer(str(text)) for text in names_of(patterns)})


def _all_reasons(field: str, expressions: Mapping[str, str]) -> Iterator[Reason]:
    """Why patterns of one field are not evaluated, each with the expression that PEFT makes of it."""
    num_characters = sum(map(len, expressions))
    if len(expressions) > MAX_PATTERNS or num_characters > MAX_PATTERNS_CHARACTERS:
        problem = (
            f"has {len(expressions)} patterns of {num_characters} characters; up to {MAX_PATTERNS} of "
            f"{MAX_PATTERNS_CHARACTERS} together are taken"
        )
        yield Reason(field=f"{_FILE}:{field}", problem=problem, remedy="write patterns that each mean many modules")
        return
    for pattern, expression in expressions.items():
        yield from _reasons(field, pattern, expression)


def _reasons(field: str, pattern: str, expression: str) -> Iterator[Reason]:
    """Why a pattern is not evaluated; `expression` is what PEFT makes of it."""
    problem = None
    if not 0 < len(pattern) <= MAX_PATTERN_CHARACTERS:
        problem = f"a pattern has {len(pattern)} characters; from 1 to {MAX_PATTERN_CHARACTERS} are taken"
    elif re.search(r"(?<!\\)(\\\\)*\\[1-9]|\(\?P=|\(\?\(", pattern):
        problem = f"{pattern[:100]!r} refers back to what another part matched, which can take for ever"
    elif _repeats_repeating(pattern):
        problem = f"{pattern[:100]!r} repeats a group that itself repeats or chooses, which can take for ever"
    else:
        try:
            re.compile(expression)
        except (re.error, RecursionError, OverflowError) as error:
            problem = f"{pattern[:100]!r} is no regular expression ({error})"
    if problem is not None:
        yield Reason(field=f"{_FILE}:{field}", problem=problem, remedy="name the modules, or write a simpler pattern")


def _is_names(value: object, *, may_miss: bool) -> bool:
    if value is None:
        return may_miss
    return (
        isinstance(value, list)
        and (may_miss or value != [])
        and all(isinstance(name, str) and 0 < len(name) <= MAX_PATTERN_CHARACTERS for name in value)
    )


def _repeats_repeating(pattern: str) -> bool:
    """Whether a group with a quantifier holds another quantifier or a choice: what backtracks exponentially."""
    holds, closed, position = [False], False, 0
    while position < len(pattern):
        sign = pattern[position]
        if sign in "*+{" and closed:
            return True
        closed_now = False
        if sign == "\\":
            position += 1
        elif sign == "[":
            position = _end_of_class(pattern, position)
        elif sign == "(":
            holds.append(False)
            position += 1 if pattern[position + 1 : position + 2] == "?" else 0  # a kind of group, no quantifier
        elif sign == ")" and len(holds) > 1:
            closed_now = holds.pop()
            holds[-1] = holds[-1] or closed_now
        elif sign in "*+?{|":
            holds[-1] = True
        closed = closed_now
        position += 1
    return False


def _end_of_class(pattern: str, start: int) -> int:
    """Where the character class ends that begins at `start`."""
    position = start + 1
    position += pattern[position : position + 1] == "^"
    position += pattern[position : position + 1] == "]"  # first in a class, it is one of its characters
    while position < len(pattern) and pattern[position] != "]":
        position += 2 if pattern[position] == "\\" else 1
    return position
