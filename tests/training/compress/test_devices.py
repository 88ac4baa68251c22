"""Calibration on a device beside the CPU: the same integers, and no operation over tensors of both."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from graft.adapters.base.base import Base
from graft.adapters.form import ServingForm
from graft.training.compress import quantize
from graft.training.compress.calibration import CalibrationText
from graft.training.compress.quantize import Quantization
from graft.training.rootstock.corpus.mixture import calibration_documents
from tests.training.second_device import second_device

TEXT = CalibrationText.of(calibration_documents(40))


def test_int4_is_calibrated_elsewhere(tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def make(name: str) -> dict[str, torch.Tensor]:
        base, output = Base.from_folder(tiny_base), tmp_path / name
        Quantization(base=base, form=ServingForm.INT4, output=output, text=TEXT, num_tokens=1200).execute()
        return load_file(output / "model.safetensors")

    expected = make("here")
    with second_device() as device:
        monkeypatch.setattr(quantize, "own_device", lambda kind: device)
        found = make("there")
    assert found.keys() == expected.keys()
    scales = [name for name in expected if name.endswith("weight_scale")]
    assert scales
    for name in scales:
        torch.testing.assert_close(found[name], expected[name], rtol=0.05, atol=0)
