"""What stands in one report beside the table of methods: comparisons of more than one training."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from graft.bench.training.comparison import Figure

Part = Callable[[Path], Mapping[str, Figure]]
"""Gets an empty folder to work in, and returns figures by the names that they have in the JSON."""

PARTS: Mapping[str, Part] = {}
"""By the name that ``--only`` knows. A new comparison is a line here."""
