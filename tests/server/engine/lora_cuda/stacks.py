"""Run as a process of its own: `stacks.py BASE ADAPTER FOLDER`; exit code 0 where CUDA's manager fills the slots of a
base in memory as vLLM's own does.

The manager runs on a CPU here: all that it asks of a device are copies. vLLM's own reads the adapter's PEFT folder.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import torch

from graft.adapters.form import ServingForm
from graft.server.engine.vllm.devices.arguments import engine_arguments
from graft.server.engine.vllm.devices.cpu import Cpu
from graft.server.engine.vllm.environment import EngineSettings, prepare_environment
from graft.server.engine.vllm.inside.managers import CUDA

Stacks = dict[str, list[torch.Tensor]]


def main(base: Path, adapter: Path, folder: Path) -> int:
    settings = EngineSettings(
        base_path=base, base_name="base", form=ServingForm.BF16, num_slots=2, max_rank=8, plugins=()
    )
    os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
    prepare_environment(settings)
    os.environ.update(Cpu().variables(settings))
    from vllm import LLM
    from vllm.lora.worker_manager import LRUCacheWorkerLoRAManager

    from graft.server.engine.lora.slot_image import SlotLayout, write_image
    from graft.server.engine.lora.tensor_file import map_tensors
    from graft.server.engine.vllm.inside.plugin import use_manager

    engine = LLM(**engine_arguments(settings, Cpu()))
    runner = engine.llm_engine.model_executor.driver_worker.worker.model_runner
    assert type(runner.lora_manager) is LRUCacheWorkerLoRAManager
    wanted = _entered(engine, runner.lora_manager, adapter)
    del engine, runner
    use_manager(CUDA)
    engine = LLM(**engine_arguments(settings, Cpu()))
    manager: Any = engine.llm_engine.model_executor.driver_worker.worker.model_runner.lora_manager
    told = manager.told()
    image = folder / "adapter.slot"
    write_image(adapter, image, SlotLayout(told["modules"], getattr(torch, told["dtype"]), told["max_rank"]))
    reserved = len(manager._staging._host)
    entered = _entered(engine, manager, image)
    # Of the largest rank and on every module: what it passes through was there, and not a byte more.
    assert reserved == len(manager._staging._host) == sum(part.nbytes for part in map_tensors(image).values())
    # An embedding's slots, and the head's, would be the largest by far.
    assert all(".layers." in name for name in manager._adapter_manager.modules)
    return _compare(entered, wanted)


def _entered(engine: Any, manager: Any, path: Path) -> Stacks:
    from vllm.lora.request import LoRARequest

    assert engine.llm_engine.add_lora(LoRARequest("adapter", 1, str(path)))
    slots = manager._adapter_manager
    slot = slots.lora_index_to_id.index(1)
    return {
        name: [stack[slot].clone() for stack in (*layer.lora_a_stacked, *layer.lora_b_stacked)]
        for name, layer in slots.modules.items()
        if ".layers." in name
    }


def _compare(found: Stacks, wanted: Stacks) -> int:
    assert found.keys() == wanted.keys() and found
    pairs = [pair for name in found for pair in zip(found[name], wanted[name], strict=True)]
    assert any(one.any() for one, _ in pairs)
    return int(not all(torch.equal(one, other) for one, other in pairs))


if __name__ == "__main__":
    sys.exit(main(*map(Path, sys.argv[1:])))
