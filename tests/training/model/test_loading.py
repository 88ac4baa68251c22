"""What of a base's folder stays in memory."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from graft.adapters.form import ServingForm
from graft.training.model.loading import load_base


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a process does not tell which files it maps")
@pytest.mark.parametrize("form", [ServingForm.NF4, ServingForm.LLM_INT8])
def test_of_plain_weights_that_were_quantized_none_are_held(form: ServingForm, tiny_base: Path) -> None:
    model = load_base(tiny_base, form)
    assert sum(1 for _ in model.parameters()) > 3
    assert str(tiny_base.resolve()) not in Path("/proc/self/maps").read_text()
