"""What a gate's marks become: means with intervals, and gains of which positive is better."""

from __future__ import annotations

import numpy as np
import pytest

from graft.training.errors import DataError
from graft.training.gate.report import report_of


def test_a_loss_is_shown_as_one_and_its_gain_is_what_was_saved() -> None:
    rng = np.random.default_rng(0)
    base = -(2.0 + rng.normal(size=200) * 0.1)
    own = base + 0.5 + rng.normal(size=200) * 0.01
    report = report_of(
        "validation loss", candidate=list(own), base=list(base), stable=list(own), stable_digest="d", is_loss=True
    )
    assert not report.higher_is_better and report.num_questions == 200
    assert report.candidate.value == pytest.approx(-own.mean()) and report.base.score.value == pytest.approx(2, abs=0.1)
    assert report.candidate.low <= report.candidate.value <= report.candidate.high
    # The usual interval of the mean of paired differences, within a fifth of its width.
    differences = own - base
    half = 1.96 * differences.std(ddof=1) / np.sqrt(200)
    assert report.base.gain.value == pytest.approx(0.5, abs=0.01)
    assert report.base.gain.low == pytest.approx(differences.mean() - half, abs=0.4 * half)
    assert report.base.gain.high == pytest.approx(differences.mean() + half, abs=0.4 * half)
    assert (report.stable.gain.value, report.stable.version_digest) == (0.0, "d")


def test_rows_that_one_model_was_not_asked_count_for_none() -> None:
    report = report_of("g", candidate=[1.0, None, 0.0], base=[0.0, 0.0, None], stable=None, stable_digest="")
    assert report.num_questions == 1 and report.base.gain.value == 1.0 and not report.HasField("stable")
    with pytest.raises(DataError, match="too long"):
        report_of("g", candidate=[None], base=[1.0], stable=None, stable_digest="")
