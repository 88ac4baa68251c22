"""Calibration on a CUDA device finds the scales that it finds on a CPU."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from graft.adapters.base.base import Base, find_base
from graft.adapters.form import ServingForm

pytestmark = pytest.mark.gpu


def test_int4_is_calibrated_to_the_same_scales(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("compressed_tensors")
    from graft.training.compress import quantize
    from graft.training.compress.calibration import CalibrationText
    from graft.training.rootstock.corpus.mixture import calibration_documents

    base, made = Base.from_folder(find_base("rootstock-5m")), {}
    text = CalibrationText.of(calibration_documents(200))
    for device in ("cpu", "cuda"):
        monkeypatch.setattr(quantize, "device_kind", lambda kind=device: kind)
        options = {"base": base, "form": ServingForm.INT4, "text": text, "num_tokens": 8192}
        quantize.Quantization(output=tmp_path / device, **options).execute()
        made[device] = load_file(tmp_path / device / "model.safetensors")
    for name, one in made["cpu"].items():
        if name.endswith("weight_scale"):
            torch.testing.assert_close(made["cuda"][name], one, rtol=0.1, atol=0)
