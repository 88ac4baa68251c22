"""Answers in one piece, for measurements: no stream of deltas, no text, so that the front costs next to nothing."""

from __future__ import annotations

from collections.abc import Sequence

from vllm import SamplingParams
from vllm.sampling_params import RequestOutputKind

from graft.server.engine.engine import EngineAdapter
from graft.server.engine.vllm.conversion import engine_errors
from graft.server.engine.vllm.engine import VllmEngine


async def whole_answer(
    engine: VllmEngine,
    prompt_token_ids: Sequence[int],
    *,
    max_tokens: int,
    request_id: str,
    adapter: EngineAdapter | None,
) -> int:
    """Generate exactly `max_tokens` tokens greedily, past any end token; returns how many came.

    Raises what `VllmEngine.generate` does.
    """
    params = SamplingParams(
        max_tokens=max_tokens,
        temperature=0.0,
        ignore_eos=True,
        detokenize=False,
        output_kind=RequestOutputKind.FINAL_ONLY,
    )
    num_tokens = 0
    with engine_errors():
        prompt = {"prompt_token_ids": list(prompt_token_ids)}
        async for output in engine.llm.generate(prompt, params, request_id, lora_request=engine.lora_request(adapter)):
            num_tokens = len(output.outputs[0].token_ids)
    return num_tokens
