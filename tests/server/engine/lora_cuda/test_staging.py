"""Adapters on their way to a GPU. What is asked of the device are copies, which a CPU makes, too."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import torch

from graft.adapters.base.base import Base, shipped_bases
from graft.server.engine.lora.tensor_file import Scratch, write_tensors
from graft.server.engine.lora.vllm_image import image_model, map_image
from graft.server.engine.lora.vllm_manager import LinearSlots
from graft.server.engine.lora_cuda.staging import Staging
from tests.server.engine.making import write_adapter


def test_what_was_staged_is_what_was_given() -> None:
    """Whatever the types and sizes are, also in memory that was used before."""
    staging = Staging(torch.device("cpu"))
    for seed in range(3):
        torch.manual_seed(seed)
        given = {
            "bytes": torch.randint(0, 255, (3,), dtype=torch.uint8),
            "odd": torch.randn(5, 3 + seed).bfloat16(),
            "view": torch.randn(4, 6).t(),
            "none": torch.empty(0, 7),
            "double": torch.randn(2, dtype=torch.float64),
        }
        moved = staging.moved(given)
        assert moved.keys() == given.keys()
        assert all(
            torch.equal(moved[name], tensor) and moved[name].dtype == tensor.dtype for name, tensor in given.items()
        )


def test_one_piece_of_memory_is_used_again() -> None:
    staging = Staging(torch.device("cpu"))
    first = staging.moved({"a": torch.ones(100), "b": torch.ones(100)})
    assert first["a"].untyped_storage().data_ptr() == first["b"].untyped_storage().data_ptr()
    second = staging.moved({"c": torch.zeros(150)})
    assert second["c"].untyped_storage().data_ptr() == first["a"].untyped_storage().data_ptr()


def test_what_is_reserved_is_what_is_used() -> None:
    """A load pins nothing, and takes nothing of a GPU whose rest is the KV cache's."""
    staging = Staging(torch.device("cpu"))
    staging.reserve(400)
    before = staging.moved({"a": torch.ones(1)})["a"].untyped_storage().data_ptr()
    after = staging.moved({"a": torch.ones(60), "b": torch.ones(40)})["b"].untyped_storage()
    assert (after.data_ptr(), after.nbytes()) == (before, 400)


def test_a_worker_takes_the_layers_that_it_has(tmp_path: Path) -> None:
    """The stages of a pipeline map one image; vLLM's merging would look at the first module, of which there is none."""
    image = {f"layers.{layer}.qkv.{part}.{side}": torch.ones(2, 3) for layer in "01" for part in "01" for side in "ab"}
    write_tensors(tmp_path / "adapter.slot", image, torch.float32, Scratch())
    slices = {"layers.1.qkv": ["layers.1.q", "layers.1.k"]}
    mapped = map_image(str(tmp_path / "adapter.slot"), slices)
    assert {name.split(".")[1] for name in mapped} == {"1"}
    assert image_model(mapped, 1, slices).loras.keys() == slices.keys()
    nothing = image_model(map_image(str(tmp_path / "adapter.slot"), {"layers.2.qkv": ["q"]}), 1, {})
    LinearSlots._create_merged_loras_inplace(LinearSlots.__new__(LinearSlots), nothing)
    assert not nothing.loras


def test_every_tensor_is_on_the_device() -> None:
    moved = Staging(torch.device("meta")).moved({"a": torch.ones(3), "b": torch.ones(2, 2)})
    assert {tensor.device.type for tensor in moved.values()} == {"meta"}


def test_slots_are_filled_as_vllm_fills_them(tmp_path: Path) -> None:
    base = Base.from_folder(next(iter(shipped_bases().values())))
    layers = {name: shape for name, shape in base.modules.items() if ".layers." in name}
    adapter = write_adapter(tmp_path / "adapter", layers, rank=8, seed=0)
    command = [
        sys.executable,
        "-m",
        "tests.server.engine.lora_cuda.stacks",
        str(base.path),
        str(adapter),
        str(tmp_path),
    ]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert ended.returncode == 0, ended.stderr[-3000:]
