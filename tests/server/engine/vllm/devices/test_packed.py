"""Packed weights on a GPU, which is simulated: vLLM's own kernels for CUDA say what they take."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from graft.adapters.base.base import Base
from graft.adapters.base.quantized import FILE_NAME
from graft.adapters.errors import InvalidBase
from graft.adapters.form import ServingForm
from graft.server.engine.vllm.environment import EngineSettings
from graft.server.engine.vllm.fitness import check_fitness
from graft.training.compress.quantize import Quantization
from tests.cases.harness.bases import change_config
from tests.server.engine.vllm.devices.simulated import BASE, SimulatedCuda, pretend


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("packed") / "int8"
    made = Quantization(base=BASE, form=ServingForm.INT8, output=output).execute()
    # What vLLM imports for it must not find another platform than this one.
    check_fitness(EngineSettings(base_path=made.path, base_name="packed", form=ServingForm.INT8), made.architecture)
    return made.path


def said(packed: Path, card: SimulatedCuda, monkeypatch: pytest.MonkeyPatch, **weights: Any) -> str:
    """What keeps the folder from being served where another quantizer made its weights so; empty where nothing does."""
    section = json.loads((packed / "config.json").read_text())["quantization_config"]
    section["config_groups"]["group_0"]["weights"] |= weights
    (packed / FILE_NAME).unlink(missing_ok=True)
    change_config(packed, quantization_config=section)
    form = ServingForm.INT4 if section["config_groups"]["group_0"]["weights"]["num_bits"] == 4 else ServingForm.INT8
    settings = EngineSettings(base_path=packed, base_name="packed", form=form, num_slots=2)
    pretend(monkeypatch, card)
    try:
        check_fitness(settings, Base.from_folder(packed).architecture)
    except InvalidBase as refused:
        return str(refused)
    return ""


BY_CHANNEL = {"num_bits": 8, "strategy": "channel", "group_size": None, "symmetric": True}
BY_GROUP = {"num_bits": 8, "strategy": "group", "group_size": 32, "symmetric": True}


@pytest.mark.parametrize("capability", [(8, 0), (9, 0), (10, 0)], ids=str)
@pytest.mark.parametrize("weights", [BY_CHANNEL, BY_GROUP, {**BY_GROUP, "num_bits": 4}], ids=str)
def test_marlin_takes_what_it_lists(
    weights: dict[str, Any], capability: tuple[int, int], packed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A CPU's kernel has no groups of 8 bits; that is no reason here."""
    assert said(packed, SimulatedCuda(capability=capability), monkeypatch, **weights) == ""


@pytest.mark.parametrize(
    ("weights", "words"),
    [
        ({**BY_GROUP, "num_bits": 4, "group_size": 16}, "4-bit weights in groups of 16 have no kernel here"),
        ({**BY_GROUP, "symmetric": False}, "8-bit weights in groups of 32, with zero points have no kernel here"),
    ],
)
def test_what_no_kernel_takes_is_said_before_the_engine_starts(
    weights: dict[str, Any], words: str, packed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = said(packed, SimulatedCuda(), monkeypatch, **weights)
    assert words in found and "graft quantize" in found
