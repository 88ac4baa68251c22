"""Draws the rooms and who imports whom, from the imports: `python tests/tools/house_picture.py [--check]`."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.tools.imports import ROOT, Graph, among, imports

PICTURE = ROOT / "deploy/docs/house.svg"
_PORTIONS = ("graft.server", "graft.training", "graft.adapters")
_WIDTH, _ROW, _BOX_WIDTH, _BOX_HEIGHT, _GAP, _MARGIN = 1120, 58, 112, 26, 14, 20
_STYLE = (
    "text{font:13px system-ui,sans-serif;fill:#222}.name{font-weight:600}"
    "rect{fill:#eef3ea;stroke:#6a8759}path{fill:none;stroke:#8a8a8a;stroke-opacity:.45}"
)


def levels(graph: Graph) -> list[list[str]]:
    """The rooms from those that nobody imports down to those that import nobody; raises RecursionError on a circle."""

    @cache
    def height(room: str) -> int:
        return 1 + max((height(other) for other in graph[room] if other in graph), default=-1)

    tallest = max(map(height, graph))
    return [sorted(room for room in graph if height(room) == level) for level in range(tallest, -1, -1)]


def picture(graph: Graph) -> str:
    """One block of rooms for each portion, what imports standing above what is imported."""
    parts: list[str] = []
    top = _MARGIN
    for portion in _PORTIONS:
        rooms = among(graph, portion)
        rooms = {room: others for room, others in rooms.items() if room != f"{portion}.commands"}
        rows = levels(rooms)
        num_arrows = sum(len(others & rooms.keys()) for others in rooms.values())
        parts.append(
            f'<text class="name" x="{_MARGIN}" y="{top + 14}">{portion}: {len(rooms)} rooms, {num_arrows} arrows</text>'
        )
        places = _places(rows, top + 30)
        parts += [*_arrows(rooms, places), *_boxes(places)]
        top += 30 + len(rows) * _ROW + _MARGIN
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {top}" role="img">'
    title = "<title>The rooms of Graft: an arrow leads from a room to one that it imports</title>"
    background = f'<rect x="0" y="0" width="{_WIDTH}" height="{top}" style="fill:#fff;stroke:none"/>'
    return "\n".join([head, title, f"<style>{_STYLE}</style>", background, *parts, "</svg>", ""])


def _places(rows: Sequence[Sequence[str]], top: int) -> dict[str, tuple[float, float]]:
    """The upper left corner of each room's box."""
    found = {}
    for number, row in enumerate(rows):
        width = len(row) * _BOX_WIDTH + (len(row) - 1) * _GAP
        # Every other row a little aside, so that arrows past it are seen.
        left = (_WIDTH - width) / 2 + (_BOX_WIDTH / 3 if number % 2 else 0)
        for index, room in enumerate(row):
            found[room] = (left + index * (_BOX_WIDTH + _GAP), top + number * _ROW)
    return found


def _arrows(rooms: Graph, places: Mapping[str, tuple[float, float]]) -> Iterator[str]:
    for room, others in sorted(rooms.items()):
        for other in sorted(others & places.keys()):
            (x1, y1), (x2, y2) = places[room], places[other]
            x1, y1, x2 = x1 + _BOX_WIDTH / 2, y1 + _BOX_HEIGHT, x2 + _BOX_WIDTH / 2
            middle = (y1 + y2) / 2
            yield f'<path d="M{x1:.0f} {y1:.0f}C{x1:.0f} {middle:.0f} {x2:.0f} {middle:.0f} {x2:.0f} {y2:.0f}"/>'


def _boxes(places: Mapping[str, tuple[float, float]]) -> Iterator[str]:
    for room, (x, y) in places.items():
        name = room.rpartition(".")[2]
        yield f'<rect x="{x:.0f}" y="{y:.0f}" width="{_BOX_WIDTH}" height="{_BOX_HEIGHT}" rx="5"/>'
        yield f'<text x="{x + _BOX_WIDTH / 2:.0f}" y="{y + 17:.0f}" text-anchor="middle">{name}</text>'


def main() -> int:
    drawn = picture(imports())
    if "--check" not in sys.argv[1:]:
        PICTURE.write_text(drawn)
        return 0
    if not PICTURE.exists() or PICTURE.read_text() != drawn:
        print(f"{PICTURE.relative_to(ROOT)} is not what the imports say: run make picture", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
