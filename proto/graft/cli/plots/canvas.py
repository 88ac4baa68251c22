"""A grid of dots in characters: eight dots of a Braille character in each cell, or one letter."""

from __future__ import annotations

from collections.abc import Callable, Iterator

# Unicode 15, chapter 21.1: the bit of each dot, by row and column of the 4 x 2 in a cell.
_BITS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))
_BLANK = 0x2800


class Canvas:
    """`width` x `height` cells. Dots are counted from the upper left corner; of a cell the last curve owns it."""

    def __init__(self, width: int, height: int, *, letters: str = "") -> None:
        """With `letters`, each curve is drawn in one of its own, one dot to a cell: where there is no colour."""
        self._letters = letters
        per_cell = (1, 1) if letters else (2, 4)
        self._per_cell_x, self._per_cell_y = per_cell
        self.num_x, self.num_y = width * per_cell[0], height * per_cell[1]
        self._bits = [[0] * width for _ in range(height)]
        self._owners: list[list[int | None]] = [[None] * width for _ in range(height)]

    def line(self, curve: int, begin: tuple[int, int], end: tuple[int, int]) -> None:
        """All dots between two, both included (Bresenham, 1965)."""
        (x, y), (last_x, last_y) = begin, end
        dx, dy = abs(last_x - x), -abs(last_y - y)
        step_x, step_y = (1 if last_x > x else -1), (1 if last_y > y else -1)
        error = dx + dy
        while True:
            self._dot(curve, x, y)
            if (x, y) == (last_x, last_y):
                return
            twice = 2 * error
            if twice >= dy:
                error, x = error + dy, x + step_x
            if twice <= dx:
                error, y = error + dx, y + step_y

    def rows(self, paint: Callable[[str, int], str]) -> Iterator[str]:
        """Each row as text; `paint` is given the cells in a row that belong to one curve, and the curve."""
        for bits, owners in zip(self._bits, self._owners, strict=True):
            parts: list[tuple[int | None, str]] = []
            for one, owner in zip(bits, owners, strict=True):
                character = self._character(one, owner)
                if parts and parts[-1][0] == owner:
                    parts[-1] = (owner, parts[-1][1] + character)
                else:
                    parts.append((owner, character))
            yield "".join(text if owner is None else paint(text, owner) for owner, text in parts)

    def _dot(self, curve: int, x: int, y: int) -> None:
        row, column = y // self._per_cell_y, x // self._per_cell_x
        self._bits[row][column] |= _BITS[y % self._per_cell_y][x % self._per_cell_x]
        self._owners[row][column] = curve

    def _character(self, bits: int, owner: int | None) -> str:
        if owner is None:
            return " "
        return self._letters[owner % len(self._letters)] if self._letters else chr(_BLANK + bits)
