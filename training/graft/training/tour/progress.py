"""How far the tour is, for who waits for it."""

from __future__ import annotations

import sys


def tell(text: str) -> None:
    """One line on standard error, so that what was found stays alone on standard output."""
    print(text, file=sys.stderr, flush=True)
