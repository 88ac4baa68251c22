"""Prompts whose first tokens are embeddings and whose others are ids.

vLLM 0.32 takes both in one prompt (`EmbedsInput` with `is_token_ids`), but wants a row of embeddings for each id, too:
rows that it never reads, travels with, hashes in the engine's loop and keeps (8 KiB a token where the width is 4,096).
Both of its runners read no more rows than there are, so only the comparison of the two lengths is in the way.
"""

from __future__ import annotations

from typing import Any


def take_leading_embeddings() -> None:
    """Let prompts in this process have fewer embeddings than ids. May run several times in a process."""
    from vllm import utils

    # Six modules know the function by name: it stays the same object and computes otherwise.
    utils.length_from_prompt_token_ids_or_embeds.__code__ = _length.__code__


def pass_leading_embeddings() -> None:
    """Let this process send such prompts to its engine, which must take them. May run several times in a process."""
    from vllm.v1.engine.input_processor import InputProcessor

    validate = InputProcessor._validate_model_input
    if getattr(validate, "passes_leading_embeddings", False):
        return

    def validate_model_input(processor: InputProcessor, prompt_input: Any, prompt_type: Any) -> None:
        if prompt_input["type"] == "embeds" and "prompt_token_ids" in prompt_input:
            # vLLM's compares the mask, of a place for each token, with the embeddings.
            processor._validate_prompt_len(len(prompt_input["prompt_token_ids"]), prompt_type)
        else:
            validate(processor, prompt_input, prompt_type)

    validate_model_input.passes_leading_embeddings = True  # type: ignore[attr-defined]
    InputProcessor._validate_model_input = validate_model_input


def embed_where_needed() -> None:
    """Let a CPU worker give the model ids, as without prompt embeddings, in every step that reads none. vLLM gives it
    embeddings in all steps then, of ids, too; for a graph's sake, which CPUs have none of. May run several times in a
    process.
    """
    from vllm.v1.worker.gpu_model_runner import GPUModelRunner

    preprocess = GPUModelRunner._preprocess
    if getattr(preprocess, "embeds_where_needed", False):
        return

    def preprocess_ids_where_possible(runner: GPUModelRunner, *args: Any, **options: Any) -> Any:
        enabled = runner.enable_prompt_embeds
        runner.enable_prompt_embeds = enabled and _reads_embeddings(runner)
        try:
            return preprocess(runner, *args, **options)
        finally:
            runner.enable_prompt_embeds = enabled

    preprocess_ids_where_possible.embeds_where_needed = True  # type: ignore[attr-defined]
    GPUModelRunner._preprocess = preprocess_ids_where_possible


def _reads_embeddings(runner: Any) -> bool:
    """Whether a request of this step has embeddings that were not read yet."""
    batch = runner.input_batch
    return any(batch.num_computed_tokens_cpu[row] < len(one) for row, one in batch.req_prompt_embeds.items())


def _length(prompt_token_ids: Any, prompt_embeds: Any) -> int:
    """Of a prompt, in tokens. (No name from outside: the code runs among vLLM's.)"""
    if prompt_token_ids is None and prompt_embeds is None:
        raise ValueError("the prompt has neither token ids nor embeddings")
    return len(prompt_embeds if prompt_token_ids is None else prompt_token_ids)
