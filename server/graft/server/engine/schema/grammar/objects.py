"""Objects as rules: properties in the schema's order, then others where the schema speaks of others."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain, combinations
from typing import TYPE_CHECKING

from graft.server.engine.schema.grammar import strings
from graft.server.engine.schema.grammar.sizes import overcommitted, rounded, shared
from graft.server.engine.schema.reading.membership import fits
from graft.server.engine.schema.reading.shapes import ANYTHING, Literal, Object, String, Terms, meet_strings, smaller
from graft.server.engine.schema.reading.values import compact
from graft.server.engine.schema.refusal import SchemaRefused, not_enforced

if TYPE_CHECKING:
    from graft.server.engine.schema.grammar.grammar import Grammar

_NAME_LENGTH = 16  # of a name that the schema leaves open
_MAX_OTHERS = 200
_SIGNS = 4  # two quotes, a colon and a comma
_PAIR_LENGTH = 32  # what a name with a short value takes
_MAX_PATTERNS = 3
_MAX_OPTIONAL = 256  # each may follow at one place, and llguidance's parser holds 2,000 items there
_INITIALS = "abcdefghijklmnopqrstuvwxyz"


@dataclass(frozen=True, kw_only=True)
class _Pair:
    name: str
    terms: Terms
    required: bool


def alternatives(grammar: Grammar, shape: Object, room: int, depth: int) -> list[str]:
    """Ways to write the object; none where nothing fits. Raises `SchemaRefused`."""
    pairs = _pairs(grammar, shape, depth)
    if pairs is None:
        return []
    pairs = _that_fit(grammar, shape, pairs, room, depth)
    required = sum(pair.required for pair in pairs)
    if len(pairs) - required > _MAX_OPTIONAL:
        problem = f"has {len(pairs) - required} properties that are not required; the limit is {_MAX_OPTIONAL}"
        raise SchemaRefused(f"{problem}: list more of them in `required`", pointer=shape.pointer, keyword="properties")
    low, high = shape.min_properties, shape.max_properties
    if high is not None and required > high:
        return []
    wanted = max(0, low - len(pairs))
    others = (shape.open or not (pairs or shape.properties) or wanted > 0) and (high is None or high > required)
    others = others and _finite(grammar, shape) is None
    fixed = 2 + sum(len(compact(pair.name)) + 2 for pair in pairs)
    leasts = [grammar.sizes.least(pair.terms, depth - 1) for pair in pairs] + ([8.0 * wanted] if others else [])
    mosts = [grammar.sizes.most(pair.terms, min(depth - 1, 6)) for pair in pairs] + ([math.inf] if others else [])
    rooms = shared(room - fixed, leasts, mosts)
    names = {name for name, _ in shape.properties} | {pair.name for pair in pairs}
    more = _others(grammar, shape, names, rooms[-1], depth) if others else None
    written: list[tuple[str, bool]] = []
    for pair, part in zip(pairs, rooms, strict=False):
        value = grammar.value(pair.terms, part, depth - 1)
        if value is None and pair.required:
            return []
        if value is not None:
            written.append((f'{strings.literal(compact(pair.name))} ":" {value}', pair.required))
    return _ordered(grammar, written, more, low, high)


def _pairs(grammar: Grammar, shape: Object, depth: int) -> list[_Pair] | None:
    """The properties that can be; None where a required one cannot."""
    found: list[_Pair] = []
    names = dict.fromkeys([name for name, _ in shape.properties])
    for name in [*names, *sorted(shape.required.difference(names)), *sorted(_finite(grammar, shape) or ())]:
        if any(pair.name == name for pair in found):
            continue
        required = name in shape.required
        terms = grammar.reader.property(shape, name)
        possible = not math.isinf(grammar.sizes.least(terms, depth - 1))
        if possible and (not shape.names or fits(grammar.reader, shape.names, name)):
            found.append(_Pair(name=name, terms=terms, required=required))
        elif required:
            return None
    return found


def _finite(grammar: Grammar, shape: Object) -> set[str] | None:
    """All names that `propertyNames` allows, where they are a list."""
    if not shape.names:
        return None
    allowed = [one for one in grammar.reader.shapes(shape.names) if isinstance(one, String | Literal)]
    if any(isinstance(one, String) for one in allowed):
        return None
    names = [json.loads(one.text) for one in allowed if isinstance(one, Literal)]
    return {name for name in names if isinstance(name, str)}


def _that_fit(grammar: Grammar, shape: Object, pairs: list[_Pair], room: int, depth: int) -> list[_Pair]:
    """Without the last optional ones that there is no room for."""
    left = room - 2 - sum(grammar.sizes.pair(shape, pair.name, depth) + 1 for pair in pairs if pair.required)
    needed = shape.min_properties - sum(pair.required for pair in pairs)
    kept: list[_Pair] = []
    for pair in pairs:
        size = 0.0 if pair.required else grammar.sizes.pair(shape, pair.name, depth) + 1
        if pair.required or size <= left or needed > 0:
            kept.append(pair)
            left -= size
            needed -= not pair.required
    return kept


def _ordered(
    grammar: Grammar, pairs: list[tuple[str, bool]], more: _Others | None, low: int, high: int | None
) -> list[str]:
    counted = high is not None or low > sum(required for _, required in pairs)
    low = low if counted else 0
    made: dict[tuple[int, int], str | None] = {}

    def rest(index: int, count: int) -> str | None:
        """What follows when `count` pairs are written (1 stands for any number where numbers do not matter)."""
        key = (index, count if counted else min(count, 1))
        if key not in made:
            made[key] = _rest(index, key[1])
        return made[key]

    def _rest(index: int, count: int) -> str | None:
        if index == len(pairs):
            return _end(grammar, more, count, low, high)
        pair, required = pairs[index]
        comma = '"," ' if count else ""
        choices: list[str] = []
        if (high is None or count < high) and (after := rest(index + 1, count + 1)) is not None:
            choices.append(f"{comma}{pair} {after}")
        if not required and (without := rest(index + 1, count)) is not None:
            choices.append(without)
        return grammar.rule(choices) if choices else None

    for index in range(len(pairs), 0, -1):  # from the end: a thousand properties are no thousand calls deep
        fewest = sum(required for _, required in pairs[:index])
        for count in range(fewest, min(index, index if high is None else high) + 1) if counted else (fewest, index):
            rest(index, count)
    body = rest(0, 0)
    return [] if body is None else [f'"{{" {body} "}}"']


def _end(grammar: Grammar, more: _Others | None, count: int, low: int, high: int | None) -> str | None:
    """What may stand behind the listed pairs: others, as many as are still wanted or allowed."""
    least = max(0, low - count)
    if more is None or (high is not None and high <= count):
        return '""' if least == 0 else None
    most = max(more.most if high is None else min(more.most, high - count), least)
    comma = '"," ' if count else ""
    if least <= 1:
        found = f"{comma}{more.pair}{strings.more(more.pair, 0, most - 1)}"
        return grammar.rule([found, *(['""'] if least == 0 else [])])
    forced = more.forced(least)
    return grammar.rule([comma + ' "," '.join(forced) + strings.more(more.pair, 0, most - least)])


@dataclass(frozen=True, kw_only=True)
class _Others:
    """Properties that the schema does not list: any of them, how many, and some whose names surely differ."""

    pair: str
    most: int
    forced: Callable[[int], list[str]]


def _others(grammar: Grammar, shape: Object, names: set[str], room: int, depth: int) -> _Others | None:
    count = max(1, min(room // _PAIR_LENGTH, _MAX_OTHERS))
    part = rounded(max(min(room / max(count, 2) * overcommitted(room), room / 2) - _NAME_LENGTH - _SIGNS, 4))
    kinds: list[str] = []
    free: list[tuple[String, str]] = []
    for matched, unmatched, terms in _classes(shape):
        value = grammar.value(terms, part, depth - 1)
        if value is None:
            continue
        for string in _names(grammar, shape, names, matched, unmatched):
            key = grammar.string(string, max(_NAME_LENGTH, string.min_length))
            if key is not None:
                kinds.append(f'{key} ":" {value}')
                if not string.patterns and not string.not_patterns and not string.formats:
                    free.append((string, value))
    if not kinds:
        return None

    def forced(least: int) -> list[str]:
        if not free or least > len(_INITIALS) or free[0][0].min_length > _NAME_LENGTH or free[0][0].max_length == 0:
            remedy = "where more names are wanted than are listed; list them in `properties` and `required`"
            raise not_enforced("minProperties", shape.pointer, remedy)
        string, value = free[0]
        low, high = max(string.min_length - 1, 0), smaller(string.max_length, _NAME_LENGTH) or 1
        tail = f'[a-z0-9_]{{{low},{max(high - 1, low)}}}"/'
        tail += "".join(f" & ~{strings.literal(compact(name))}" for name in sorted(string.excluded))
        keys = [grammar.terminal(f'/"{initial}{tail}') for initial in _INITIALS[:least]]
        return [f'{key} ":" {value}' for key in keys]

    return _Others(pair=grammar.rule(kinds), most=count, forced=forced)


def _classes(shape: Object) -> Iterator[tuple[tuple[str, ...], tuple[str, ...], Terms]]:
    """Other names by the patterns that they match: these, those that they do not, and what then holds."""
    patterns = list(dict.fromkeys(pattern for rest in shape.rests for pattern, _ in rest.patterns))
    sizes = range(len(patterns) + 1 if len(patterns) <= _MAX_PATTERNS else 2)
    for matched in chain.from_iterable(combinations(patterns, size) for size in sizes):
        terms: Terms = ANYTHING
        for rest in shape.rests:
            found = [also for pattern, also in rest.patterns if pattern in matched]
            terms = terms.union(*found) if found else terms | rest.additional
        yield matched, tuple(pattern for pattern in patterns if pattern not in matched), terms


def _names(
    grammar: Grammar, shape: Object, taken: set[str], matched: tuple[str, ...], unmatched: tuple[str, ...]
) -> Iterator[String]:
    wanted = String(patterns=matched, not_patterns=unmatched, excluded=frozenset(taken))
    for allowed in grammar.reader.shapes(shape.names):
        met = meet_strings(wanted, allowed) if isinstance(allowed, String) else None
        if met is not None:
            yield met
