"""How fast rows are learned, as parts of the report of methods: LoRA beside TRL, and eight adapters at once."""

from __future__ import annotations

from pathlib import Path

from graft.adapters.base.base import find_base
from graft.bench.training.comparison import Figure
from graft.bench.training.supervised.comparison import SftPlan, sft_figures
from graft.bench.training.together import NUM_ADAPTERS, together_figures
from graft.training.rootstock.corpus.mixture import ROOTSTOCK

NUM_PAIRS, NUM_STEPS = 3, 8
_TOGETHER = f"together_vs_apart_{NUM_ADAPTERS}"


def sft_speeds(folder: Path) -> dict[str, Figure]:
    """``graft bench training --only sft`` on generated rows."""
    return sft_figures(SftPlan(rows=None, generated=ROOTSTOCK.texts, num_pairs=NUM_PAIRS, num_steps=NUM_STEPS))


def together_speeds(folder: Path) -> dict[str, Figure]:
    """``graft bench training --only together`` of the shipped base, and ``together_vs_apart_8``: of four rows as short
    as those that the methods learn.
    """
    found = together_figures({"5m": find_base("rootstock-5m")}, num_pairs=NUM_PAIRS, num_steps=NUM_STEPS)
    return {_TOGETHER: found[f"{_TOGETHER}_5m_4_short"], **found}
