"""Generators of seeded requests whose prompt takes several steps, on CPUs.

After each of a prompt's steps vLLM samples, throws the token away before the last one, and then turns the request's
generator back by `Generator.set_offset`, which only CUDA's generators have: a CPU's raises RuntimeError, of which the
engine dies (0.32, `GPUModelRunner._bookkeeping_sync`). Here the generator's whole state is put back.
"""

from __future__ import annotations

from typing import Any


def turn_back_seeds() -> None:
    """Make a CPU worker's process put states back. May run several times in a process."""
    from vllm.v1.worker.gpu_model_runner import GPUModelRunner

    sample, keep = GPUModelRunner._sample, GPUModelRunner._bookkeeping_sync
    if getattr(sample, "turns_back", False):
        return

    def sample_and_turn_back(runner: GPUModelRunner, *args: Any, **options: Any) -> Any:
        states = [(generator, generator.get_state()) for generator in _thrown_away(runner).values()]
        output = sample(runner, *args, **options)
        for generator, state in states:
            generator.set_state(state)
        return output

    def keep_without_offsets(runner: GPUModelRunner, *args: Any, **options: Any) -> Any:
        generators, turned_back = runner.input_batch.generators, _thrown_away(runner)
        for row in turned_back:
            del generators[row]
        try:
            return keep(runner, *args, **options)
        finally:
            generators.update(turned_back)

    sample_and_turn_back.turns_back = True  # type: ignore[attr-defined]
    GPUModelRunner._sample, GPUModelRunner._bookkeeping_sync = sample_and_turn_back, keep_without_offsets


def _thrown_away(runner: Any) -> dict[int, Any]:
    """Generators of the rows whose token of this step is thrown away."""
    is_thrown_away = runner.discard_request_mask.np[: runner.input_batch.num_reqs]
    return {row: generator for row, generator in runner.input_batch.generators.items() if is_thrown_away[row]}
