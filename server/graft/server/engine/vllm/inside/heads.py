"""Classes from a generating engine: rows whose adapter brings a head are answered by it, in the batch of all others.

Between a step's forward pass and its sampler vLLM's runner (the one that CPUs have, `gpu_model_runner`) keeps the last
hidden state of each row and the logits over the vocabulary that follow from it. vLLM's own way to heads is an engine
for them alone, whose every request is a classification. Rows are in the order of the batch: nothing drafts tokens here.
"""

from __future__ import annotations

from typing import Any

from graft.server.engine.lora.head import with_outputs


def answer_by_heads() -> None:
    """Make a worker on a CPU answer so. May run several times in a process."""
    from vllm.v1.worker.gpu_model_runner import GPUModelRunner

    execute = GPUModelRunner.execute_model
    if getattr(execute, "answers_by_heads", False):
        return

    def execute_model(runner: GPUModelRunner, *args: Any, **options: Any) -> Any:
        output = execute(runner, *args, **options)
        _answer(runner)
        return output

    execute_model.answers_by_heads = True  # type: ignore[attr-defined]
    GPUModelRunner.execute_model = execute_model


def _answer(runner: Any) -> None:
    state, manager = runner.execute_model_state, getattr(runner, "lora_manager", None)
    if state is None or state.logits is None or manager is None or not manager.heads:
        return
    adapters = runner.input_batch.request_lora_mapping[: len(state.logits)].tolist()
    logits = with_outputs(state.logits, state.sample_hidden_states, adapters, manager.heads)
    runner.execute_model_state = state._replace(logits=logits)
