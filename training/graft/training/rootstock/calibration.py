"""Text that steers the rounding of the shipped bases."""

from __future__ import annotations

from itertools import islice
from random import Random

from graft.training.rootstock.corpus.mixture import ROOTSTOCK


def calibration_documents(num_documents: int = 2000) -> tuple[str, ...]:
    """Documents that no training and no held-out set draws."""
    return tuple(islice(ROOTSTOCK.texts(Random("calibration")), num_documents))
