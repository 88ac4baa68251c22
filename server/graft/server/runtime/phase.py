"""Steps of the start in the log, each with the time that it took."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic


@contextmanager
def phase(log: logging.Logger, what: str) -> Iterator[None]:
    """Say that a part of the start has begun, and how long it took."""
    log.info("%s", what)
    began = monotonic()
    yield
    log.info("%s: done in %.1f s", what, monotonic() - began)
