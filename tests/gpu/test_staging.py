"""Copies for a checkpoint, from a CUDA device."""

from __future__ import annotations

import pytest
import torch

from graft.training.loop.staging import Staging

pytestmark = pytest.mark.gpu


def test_copies_are_pinned_whole_and_of_the_moment_they_began() -> None:
    weights = torch.randn(1 << 22, device="cuda")
    before, staging = weights.cpu(), Staging()
    first, are_whole = staging.copies({"weights": weights})
    weights += 1  # behind the copy, in the same stream
    are_whole()
    assert first["weights"].is_pinned() and torch.equal(first["weights"], before)
    second, are_whole = staging.copies({"weights": weights})
    are_whole()
    assert second["weights"].data_ptr() == first["weights"].data_ptr()
    assert torch.equal(second["weights"], weights.cpu())
