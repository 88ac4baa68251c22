"""Run as a process of its own: `split.py BASE ADAPTER FOLDER TENSOR PIPELINE`; prints one JSON line about an engine
that is split over several processes, with ADAPTER in a slot.

The processes run on a CPU; the manager of adapters is CUDA's, whose copies, and vLLM's kernels, are a CPU's here. In
float32. vLLM does not run a pipeline on CPUs: of one, "slots" is told, the norm of A and of B for each slice of each
module, by the base's name; of a whole model also "logprobs" of `IDS` after the first.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
from pathlib import Path
from typing import Any

from graft.adapters.form import ServingForm
from graft.server.engine.lora.slot_image import layout_of, write_image
from graft.server.engine.vllm.devices.arguments import engine_arguments
from graft.server.engine.vllm.devices.cpu import Cpu
from graft.server.engine.vllm.environment import EngineSettings, prepare_environment
from graft.server.engine.vllm.inside import plugin
from graft.server.engine.vllm.inside.managers import CUDA

IDS = list(range(20, 60))
_ID = 1


class CudaWorkers(plugin.WorkerReport):
    """Mixed into each worker, which imports it before the model is loaded."""

    def norms(self) -> dict[str, tuple[float, float]]:
        """Of the adapter in its slot, by the base's modules."""
        slots = self.model_runner.lora_manager._adapter_manager
        slot = slots.lora_index_to_id.index(_ID)
        return {
            part: (float(layer.lora_a_stacked[at][slot].norm()), float(layer.lora_b_stacked[at][slot].norm()))
            for name, layer in slots.modules.items()
            for at, part in enumerate(slots.slices[name])
        }


def main(base: str, adapter: str, folder: str, tensor: str, pipeline: str) -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    settings = EngineSettings(base_path=Path(base), base_name="base", form=ServingForm.FP32, num_slots=2, max_rank=8)
    prepare_environment(settings)
    os.environ.update(Cpu().variables(settings) | {"VLLM_CPU_OMP_THREADS_BIND": "nobind"})
    from vllm import LLM
    from vllm.lora.request import LoRARequest

    split = {"tensor_parallel_size": int(tensor), "pipeline_parallel_size": int(pipeline)}
    workers = {"worker_extension_cls": f"tests.server.engine.lora_cuda.split.{CudaWorkers.__name__}"}
    engine = LLM(**engine_arguments(settings, Cpu()) | split | workers)
    reports = engine.collective_rpc("graft_lora_report")
    assert [report["manager"] for report in reports] == [CUDA] * (int(tensor) * int(pipeline)), reports
    layout = layout_of(reports)
    assert layout is not None
    write_image(Path(adapter), image := Path(folder) / "adapter.slot", layout)
    request = LoRARequest("adapter", _ID, str(image))
    assert engine.llm_engine.add_lora(request)
    told: dict[str, Any] = {"slots": list(engine.collective_rpc("norms"))}
    if int(pipeline) == 1:
        told["logprobs"] = _logprobs(engine, request)
    answers.write(json.dumps(told) + "\n")
    answers.close()


def _logprobs(engine: Any, request: Any) -> list[float]:
    from vllm import SamplingParams

    params = SamplingParams(max_tokens=1, temperature=0.0, prompt_logprobs=0, detokenize=False)
    (output,) = engine.generate({"prompt_token_ids": IDS}, params, use_tqdm=False, lora_request=request)
    rows = output.prompt_logprobs[1:]
    return [row[token].logprob for row, token in zip(rows, IDS[1:], strict=True)]


if __name__ == "__main__":
    main(*sys.argv[1:])
elif multiprocessing.parent_process() is not None:
    plugin.use_manager(CUDA)
