"""Run as a process of its own: engines inside it, one after the other, each on a base and with an adapter on top.

Reads one JSON object per line, {"base", "form", "adapter", "ids"}; writes for each the log-probabilities of the ids
after the first, of the base and through the adapter. A process per engine would cost more than all that they compute.
"""

from __future__ import annotations

import gc
import json
import os
import sys
from pathlib import Path
from typing import Any

from graft.adapters.form import ServingForm
from graft.server.engine.vllm.devices.arguments import engine_arguments
from graft.server.engine.vllm.devices.cpu import Cpu
from graft.server.engine.vllm.environment import EngineSettings, prepare_environment


def main() -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever a library prints is no answer
    for line in sys.stdin:
        answers.write(json.dumps(_answer(**json.loads(line))) + "\n")
        answers.flush()


def _answer(*, base: str, form: str, adapter: str | None, ids: list[int]) -> list[list[float]]:
    settings = EngineSettings(
        base_path=Path(base), base_name="base", form=ServingForm(form), num_slots=1 if adapter else 0, max_rank=8
    )
    os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
    prepare_environment(settings)
    os.environ.update(Cpu().variables(settings))
    from vllm import LLM
    from vllm.distributed.parallel_state import cleanup_dist_env_and_memory
    from vllm.lora.request import LoRARequest

    engine = LLM(**engine_arguments(settings, Cpu()))
    found = [_log_probabilities(engine, ids, None)]
    if adapter:
        found.append(_log_probabilities(engine, ids, LoRARequest("adapter", 1, adapter)))
    del engine
    gc.collect()
    cleanup_dist_env_and_memory()
    return found


def _log_probabilities(engine: Any, ids: list[int], adapter: Any) -> list[float]:
    from vllm import SamplingParams

    params = SamplingParams(max_tokens=1, temperature=0.0, prompt_logprobs=0, detokenize=False)
    (output,) = engine.generate({"prompt_token_ids": ids}, params, use_tqdm=False, lora_request=adapter)
    rows = output.prompt_logprobs[1:]
    return [row[token].logprob for row, token in zip(rows, ids[1:], strict=True)]


if __name__ == "__main__":
    main()
