"""The lines of texts, by which a text is known again in another, and a bounded sketch of those of a large corpus."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

MAX_KEPT = 1 << 18
"""Hashes of one sketch: 2 MB."""
ALL = 1 << 64
_LEAST_BYTES = 24
"""Shorter lines (``End of chapter.``) stand in every prose; eight letters of Chinese say as much as this."""

Hashes = NDArray[np.uint64]


@dataclass(frozen=True, kw_only=True)
class Sketch:
    """Every line of a text whose hash is below a bound, so that two texts keep the same of the lines that they share
    (Broder 1997, "On the resemblance and containment of documents", §3).
    """

    bound: int
    """``ALL`` where the text has few lines: then all of them are here."""
    hashes: Hashes
    """Ascending."""

    def holds(self, hashes: Hashes) -> NDArray[np.bool_]:
        """Whether each is of a line of the text; those at the bound or above are not known, and are False."""
        if not len(self.hashes):
            return np.zeros(len(hashes), dtype=np.bool_)
        at = np.searchsorted(self.hashes, hashes).clip(max=len(self.hashes) - 1)
        found: NDArray[np.bool_] = self.hashes[at] == hashes
        return found


class Sketching:
    """A sketch in the making, of at most ``max_kept`` lines, whatever comes."""

    def __init__(self, max_kept: int = MAX_KEPT) -> None:
        self._max_kept, self._bound = max_kept, ALL
        self._found = array("Q")

    def add(self, text: str) -> None:
        for line in lines(text):
            if (number := hash_of(line)) < self._bound:
                self._found.append(number)
                if len(self._found) >= 2 * self._max_kept:
                    self._forget()

    def sketch(self) -> Sketch:
        self._forget()
        return Sketch(bound=self._bound, hashes=np.frombuffer(self._found, dtype=np.uint64))

    def _forget(self) -> None:
        """Equal lines but one, and the largest of too many."""
        kept = np.unique(np.frombuffer(self._found, dtype=np.uint64))
        if len(kept) > self._max_kept:
            self._bound = int(kept[self._max_kept])
            kept = kept[: self._max_kept]
        self._found = array("Q", kept.tobytes())


def overlap(sketches: Sequence[Sketch], held_out: Iterable[str]) -> float | None:
    """The part of a held-out text that stands in the sketched texts, too, from 0 to 1: by characters, in lines that are
    the same but for the blanks around them. An estimate from those below every sketch's bound; None where none is.

    Short lines count in held-out documents that are mostly made of them, as rows of sums or verses are: equal by chance
    or not, they were trained on.
    """
    asked = [line for document in held_out for line in _telling(document)]
    hashes = np.array([hash_of(line) for line in asked], dtype=np.uint64)
    bound = min((sketch.bound for sketch in sketches), default=ALL)
    is_known = np.ones(len(asked), dtype=np.bool_) if bound == ALL else hashes < np.uint64(bound)
    sizes = np.array([len(line) for line in asked], dtype=np.int64)[is_known]
    if not len(sizes):
        return None if asked else 0.0
    shared = np.zeros(len(sizes), dtype=np.bool_)
    for sketch in sketches:
        shared |= sketch.holds(hashes[is_known])
    return float(sizes[shared].sum() / sizes.sum())


def sketch_of(documents: Iterable[str], max_kept: int = MAX_KEPT) -> Sketch:
    made = Sketching(max_kept)
    for document in documents:
        made.add(document)
    return made.sketch()


def lines(text: str) -> Iterator[str]:
    """Those that are not blank, without the blanks around them."""
    return (stripped for line in text.split("\n") if (stripped := line.strip()))


def hash_of(line: str) -> int:
    """64 bits, the same everywhere."""
    return int.from_bytes(blake2b(line.encode(), digest_size=8).digest(), "little")


def _telling(document: str) -> list[str]:
    """The lines by which a document is known."""
    found = list(lines(document))
    long = [line for line in found if len(line.encode()) >= _LEAST_BYTES]
    return long if 2 * sum(map(len, long)) >= sum(map(len, found)) else found
