"""How short and how long the JSON of a value can be, in characters."""

from __future__ import annotations

import math
from collections.abc import Sequence

from graft.server.engine.schema.grammar import numbers
from graft.server.engine.schema.reading.reading import Reader
from graft.server.engine.schema.reading.shapes import NOTHING, Array, Literal, Number, Object, Shape, String, Terms
from graft.server.engine.schema.reading.values import compact

MAX_DEPTH = 24  # arrays and objects inside each other
_LISTED_ITEMS = 64


class Sizes:
    """Bounds of each value, by how many levels of arrays and objects it may still hold."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._least: dict[tuple[Terms, int], float] = {}
        self._most: dict[tuple[Terms, int], float] = {}

    def least(self, terms: Terms, depth: int) -> float:
        """The shortest; infinite where nothing fits."""
        key = (terms, depth)
        if key not in self._least:
            shapes = self._reader.shapes(terms)
            self._least[key] = min((self.least_of(shape, depth) for shape in shapes), default=math.inf)
        return self._least[key]

    def least_of(self, shape: Shape, depth: int) -> float:
        if isinstance(shape, Literal):
            return len(shape.text)
        if isinstance(shape, String):
            return shape.min_length + 2
        if isinstance(shape, Number):
            low, high = numbers.whole_bounds(shape)
            return len(str(low)) if low > 0 else len(str(high)) if high < 0 else 1
        if depth == 0:
            return math.inf
        if isinstance(shape, Array):
            lengths = [self.least(shape.at(i), depth - 1) for i in range(min(shape.min_items, _LISTED_ITEMS))]
            return sum(lengths) + max(shape.min_items, 1) + 1
        return self._least_object(shape, depth)

    def _least_object(self, shape: Object, depth: int) -> float:
        required = [self.pair(shape, name, depth) for name in shape.required]
        more = max(0, shape.min_properties - len(required))
        return sum(required) + 8 * more + max(len(required) + more, 1) + 1

    def pair(self, shape: Object, name: str, depth: int) -> float:
        """The shortest name, colon and value."""
        return len(compact(name)) + 1 + self.least(self._reader.property(shape, name), depth - 1)

    def most(self, terms: Terms, depth: int) -> float:
        """The longest; infinite where the schema sets no bound."""
        key = (terms, depth)
        if key not in self._most:
            self._most[key] = max((self._most_of(shape, depth) for shape in self._reader.shapes(terms)), default=0)
        return self._most[key]

    def _most_of(self, shape: Shape, depth: int) -> float:
        if isinstance(shape, Literal):
            return len(shape.text)
        if isinstance(shape, String):
            return math.inf if shape.max_length is None else shape.max_length + 2
        if isinstance(shape, Number):
            return numbers.MAX_DIGITS + 8
        if depth == 0:
            return math.inf
        if isinstance(shape, Array):
            if shape.max_items is None or shape.max_items > _LISTED_ITEMS:
                return 2 if shape.items == NOTHING and not shape.prefix else math.inf
            lengths = [self.most(shape.at(index), depth - 1) for index in range(shape.max_items)]
            return sum(lengths) + shape.max_items + 1
        if shape.open or not shape.properties:
            return math.inf
        pairs = [len(compact(name)) + 2 + self.most(terms, depth - 1) for name, terms in shape.properties]
        return sum(pairs) + 1


def shared(room: float, leasts: Sequence[float], mosts: Sequence[float]) -> list[int]:
    """Room for each of several values: its least, and an equal part of what is left unless it needs less."""
    left = max(room - sum(leasts), 0)
    found = [0.0] * len(leasts)
    order = sorted(range(len(leasts)), key=lambda index: mosts[index] - leasts[index])
    for done, index in enumerate(order):
        part = min(left / (len(order) - done), mosts[index] - leasts[index])
        found[index] = leasts[index] + part
        left -= part
    return [rounded(value) for value in found]


def overcommitted(room: float) -> float:
    """How often the room may be given away among items and names that the schema does not count.

    Once where it is short: what a small base writes there is hardly ended by itself. More where it is long.
    """
    return max(1.0, room / 600)


def rounded(room: float) -> int:
    """A little less room, so that like values share a rule."""
    whole = int(min(room, 1 << 30))
    step = 1 << max(whole.bit_length() - 4, 0)
    return whole // step * step
