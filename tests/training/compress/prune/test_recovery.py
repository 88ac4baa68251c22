"""An adapter wins back what pruning lost, on the shipped base."""

from __future__ import annotations

import pytest

from graft.adapters.base.base import Base, find_base
from graft.bench.training.pruning.comparison import PLAIN, Comparison
from graft.training.compress.calibration import CalibrationText
from graft.training.compress.prune.sparsity import Sparsity
from graft.training.rootstock.corpus.mixture import calibration_documents, held_out_documents


@pytest.mark.slow
def test_sparsegpt_loses_least_and_adapters_win_back_what_was_lost() -> None:
    found = Comparison(
        base=Base.from_folder(find_base("rootstock-5m")),
        text=CalibrationText.of(calibration_documents()),
        held_out=CalibrationText.of(held_out_documents()),
        num_tokens=8192,
        sparsities=(Sparsity.pattern("2:4"),),
        recover_steps=20,
    ).measure()
    plain, sparsegpt, magnitude = (found[name] for name in (PLAIN, "sparsegpt_2:4", "magnitude_2:4"))
    assert plain.perplexity < sparsegpt.perplexity < magnitude.perplexity
    for one in (sparsegpt, magnitude):
        assert one.recovered_perplexity is not None
        assert one.recovered_perplexity < one.perplexity
