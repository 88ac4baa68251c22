"""Adapters on an engine that is split over several processes: real processes, on a CPU."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from graft.adapters.base.base import Base, shipped_bases
from graft.server.engine.lora.slot_image import layout_of
from tests.server.engine.lora_cuda.split import IDS
from tests.server.engine.making import peft_logprobs, write_adapter

ONE = {"dtype": "bfloat16", "max_rank": 8, "modules": {"layers.0.qkv": ["layers.0.q", "layers.0.k"]}}
OTHER = {"dtype": "bfloat16", "max_rank": 8, "modules": {"layers.1.qkv": ["layers.1.q", "layers.1.k"]}}


@pytest.fixture(scope="module")
def base() -> Base:
    return Base.from_folder(next(iter(shipped_bases().values())))


def asked(base: Base, adapter: Path, folder: Path, *, tensor: int = 1, pipeline: int = 1) -> dict[str, Any]:
    module = "tests.server.engine.lora_cuda.split"
    command = [sys.executable, "-m", module, str(base.path), str(adapter), str(folder), str(tensor), str(pipeline)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=1200)
    assert ended.returncode == 0, ended.stderr[-3000:]
    told: dict[str, Any] = json.loads(ended.stdout)
    return told


def norms(adapter: Path) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {}
    for key, tensor in sorted(load_file(adapter / "adapter_model.safetensors").items()):
        found.setdefault(key.removeprefix("base_model.model.").rsplit(".", 2)[0], []).append(float(tensor.norm()))
    return found


def test_the_workers_layouts_are_one() -> None:
    """In a pipeline each worker has some of the layers."""
    layout = layout_of([ONE, OTHER])
    assert layout is not None
    assert layout.place_of("layers.0.k") == ("layers.0.qkv", 1)
    assert layout.place_of("layers.1.q") == ("layers.1.qkv", 0)


def test_no_worker_takes_images_where_one_does_not() -> None:
    assert layout_of([ONE, {**OTHER, "modules": {}}]) is None


@pytest.mark.slow
def test_tensor_parallel_workers_say_what_peft_says(base: Base, tmp_path: Path) -> None:
    """Each holds its slices of every matrix, and what they compute together is the adapter's."""
    layers = {name: shape for name, shape in base.modules.items() if ".layers." in name}
    adapter = write_adapter(tmp_path / "adapter", layers, rank=8, seed=0)
    told = asked(base, adapter, tmp_path, tensor=2)
    assert told["logprobs"] == pytest.approx(peft_logprobs(base, adapter, IDS, 1, dtype="float32"), abs=5e-3)
    assert told["slots"][0] != told["slots"][1]


@pytest.mark.slow
def test_each_stage_of_a_pipeline_holds_its_layers(base: Base, tmp_path: Path) -> None:
    """Also of an adapter that leaves one of the stages alone."""
    first = {name: shape for name, shape in base.modules.items() if ".layers.0." in name}
    adapter = write_adapter(tmp_path / "adapter", first, rank=8, seed=0)
    stages = asked(base, adapter, tmp_path, pipeline=2)["slots"]
    assert len(stages) == 2 and not stages[0].keys() & stages[1].keys()
    wanted = norms(adapter)
    assert {name: stages[0][name] for name in wanted} == {name: pytest.approx(each) for name, each in wanted.items()}
    assert all(each == [0.0, 0.0] for each in stages[1].values()) and stages[1]
