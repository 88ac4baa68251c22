"""Arrays as rules: a prefix, items, how many, what they contain, whether they differ."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

from graft.server.engine.schema.grammar import numbers, strings
from graft.server.engine.schema.grammar.sizes import overcommitted, rounded
from graft.server.engine.schema.reading.shapes import Array, Literal, Number, Terms
from graft.server.engine.schema.refusal import not_enforced

if TYPE_CHECKING:
    from graft.server.engine.schema.grammar.grammar import Grammar

_MAX_VALUES = 48  # what differing items are drawn from: one bit each
_MAX_PAIRS = 8
_MAX_ITEMS = 1_000


def alternatives(grammar: Grammar, shape: Array, room: int, depth: int) -> list[str]:
    """Ways to write the array; none where nothing fits. Raises `SchemaRefused`."""
    slots = _placed(grammar, shape, depth)
    if slots is None:
        return []
    if shape.unique is not None and (slots.max_items is None or slots.max_items > 1) and not _differ(grammar, slots):
        return _differing(grammar, slots, shape.unique, room)
    return _written(grammar, slots, room, depth)


def _placed(grammar: Grammar, shape: Array, depth: int) -> Array | None:
    """The array with what it must contain put where it first fits, and excluded elsewhere where it is limited."""
    slots = shape
    for clause in shape.contains:
        placed, index = 0, 0
        prefix = list(slots.prefix)
        items = slots.items if clause.high is None else slots.items | clause.opposite
        length = max(len(prefix), slots.min_items)
        while placed < clause.low or (clause.high is not None and index < length):
            if index > len(slots.prefix) + clause.low + _MAX_VALUES or (
                slots.max_items is not None and index >= slots.max_items
            ):
                break
            here = slots.at(index)
            fits = placed < clause.low and not math.isinf(grammar.sizes.least(here | clause.terms, depth - 1))
            terms = here | clause.terms if fits else here | (frozenset() if clause.high is None else clause.opposite)
            prefix[index : index + 1] = [terms]
            placed += fits
            index += 1
        if placed < clause.low:
            return None
        low = max(slots.min_items, index if placed else 0) if clause.low else slots.min_items
        slots = replace(slots, prefix=tuple(prefix), items=items, min_items=low)
    return _cut(grammar, slots, depth)


def _cut(grammar: Grammar, slots: Array, depth: int) -> Array | None:
    """The array ends before the first item that nothing fits."""
    impossible = [
        index for index in range(len(slots.prefix) + 1) if math.isinf(grammar.sizes.least(slots.at(index), depth - 1))
    ]
    high = slots.max_items
    if impossible:
        high = impossible[0] if high is None else min(high, impossible[0])
    if high is not None and slots.min_items > high:
        return None
    return replace(slots, max_items=high)


def _written(grammar: Grammar, slots: Array, room: int, depth: int) -> list[str]:
    sizes = grammar.sizes
    needed = [sizes.least(slots.at(index), depth - 1) for index in range(min(slots.min_items, _MAX_ITEMS))]
    spare = room - sum(needed) - slots.min_items - 1
    high = _count(grammar, slots, room, spare, depth)
    open_ended = math.isinf(sizes.most(slots.items, min(depth - 1, 6)))  # an item must not take all that is left
    part = max(room - 1 - high, 2) / max(high, 2 if open_ended else 1)
    part = rounded(min(part * overcommitted(room), room / 2)) if open_ended else rounded(part)
    return _sequence(grammar, slots, slots.min_items, high, part, depth)


def _count(grammar: Grammar, slots: Array, room: int, spare: float, depth: int) -> int:
    """How many items there is room for; where the schema allows it, not all of them as short as can be."""
    if slots.max_items is not None and slots.max_items <= max(len(slots.prefix), slots.min_items):
        return slots.max_items
    least = max(grammar.sizes.least(slots.items, depth - 1), 1)
    most = min(grammar.sizes.most(slots.items, min(depth - 1, 6)), room)
    each = max(least, min(most, max(room / 6, least * 2)))
    wished = slots.min_items + int(max(spare, 0) / (each + 1) * overcommitted(room))
    if spare > least:
        wished = max(wished, slots.min_items + 1)
    wished = max(wished, min(len(slots.prefix), _MAX_ITEMS))
    return max(min(wished, _MAX_ITEMS if slots.max_items is None else slots.max_items), slots.min_items)


def _sequence(grammar: Grammar, slots: Array, low: int, high: int, part: int, depth: int) -> list[str]:
    """`[`, the items with commas, `]`; the tail of like items as a counted repetition."""
    head = min(len(slots.prefix), high)
    values: list[str] = []
    for index in range(head):
        value = grammar.value(slots.at(index), part, depth - 1)
        if value is None:
            if index < low:
                return []
            return _joined(grammar, values, low, None, 0, 0)
        values.append(value)
    item = grammar.value(slots.items, part, depth - 1) if high > head else None
    if item is None and low > head:
        return []
    return _joined(grammar, values, low, item, max(low - head, 0), high - head if item else 0)


def _joined(grammar: Grammar, values: list[str], low: int, item: str | None, more: int, most: int) -> list[str]:
    tail = ""
    if item is not None and most > 0:
        counted = strings.more(item, max(more - (not values), 0), most - (not values))
        tail = counted.strip() if values else f"{item}{counted}"
    if not values:
        if not tail:
            return ['"[" "]"'] if low == 0 else []
        return [f'"[" {tail} "]"', *(['"[" "]"'] if low == 0 else [])]
    body = tail
    for index in range(len(values) - 1, -1, -1):
        comma = '"," ' if index else ""
        inner = f"{comma}{values[index]} {body}".strip()
        body = inner if index < low else f"{grammar.rule([inner, chr(34) * 2])}"
    return [f'"[" {body} "]"']


def _differ(grammar: Grammar, slots: Array) -> bool:
    """Whether the items differ whatever they are, as a few places with nothing in common do."""
    if slots.max_items is None or slots.max_items > _MAX_PAIRS:
        return False
    return all(
        grammar.reader.empty(slots.at(first) | slots.at(second))
        for first in range(slots.max_items)
        for second in range(first)
    )


def _differing(grammar: Grammar, slots: Array, pointer: str, room: int) -> list[str]:
    """Items drawn from a short list of values, each at most once (a parametric rule: one bit for each)."""
    values = None if slots.prefix else _values(grammar, slots.items)
    if values is None:
        remedy = (
            "where items are drawn from more than a short list; list them in `enum`, or drop repetitions afterwards"
        )
        raise not_enforced("uniqueItems", pointer, remedy)
    values = values[:_MAX_VALUES]
    longest = max((len(value) for value in values), default=0) + 1
    high = min(
        len(values),
        slots.max_items if slots.max_items is not None else len(values),
        max(room // longest, slots.min_items),
    )
    if high < slots.min_items:
        return []
    if high == 0:
        return ['"[" "]"']
    rest = [f'"" %if bit_count_ge(_, {slots.min_items})'] if slots.min_items else ['""']
    first = ['""'] if slots.min_items == 0 else []
    name = grammar.rule(['""']) + "-differing"
    for bit, value in enumerate(values):
        text = strings.literal(value)
        first.append(f"{text} {name}-more::set_bit({bit})")
        rest.append(f'"," {text} {name}-more::set_bit({bit}) %if and(bit_clear({bit}), bit_count_lt(_, {high}))')
    grammar.define(f"{name}-more::_", rest)
    grammar.define(f"{name}::_", first)
    return [f'"[" {name}::0x0 "]"']


def _values(grammar: Grammar, terms: Terms) -> list[str] | None:
    """All values of an item, where they are few."""
    found: list[str] = []
    for shape in grammar.reader.shapes(terms):
        if isinstance(shape, Literal):
            found.append(shape.text)
        elif isinstance(shape, Number) and shape.whole and shape.low is not None and shape.high is not None:
            if shape.high - shape.low > 200:
                return None
            found += numbers.listed(shape)
        else:
            return None
    return list(dict.fromkeys(found))
