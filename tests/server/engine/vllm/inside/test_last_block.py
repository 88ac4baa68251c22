"""What requests with one prompt compute of its last block: the last token; and that they read nothing but their own."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some
from vllm.config import VllmConfig
from vllm.engine.arg_utils import AsyncEngineArgs

from graft.adapters.base.base import Base
from graft.server.engine.vllm.devices.arguments import engine_arguments
from graft.server.engine.vllm.devices.cpu import Cpu
from graft.server.engine.vllm.environment import prepare_environment
from graft.server.engine.vllm.inside.cached_prefix import LIMIT
from tests.server.engine.making import engine_settings
from tests.server.engine.vllm.inside.symbolic import BLOCK, SymbolicEngine

RUNNING, STEP_TOKENS = 24, 48
DEPTHS = pytest.mark.parametrize("depth", [1, 2])


@pytest.fixture(scope="module")
def config(base: Base) -> VllmConfig:
    settings = engine_settings(base, max_running=RUNNING, max_step_tokens=STEP_TOKENS)
    prepare_environment(settings)
    arguments = AsyncEngineArgs(**engine_arguments(settings, Cpu()), disable_log_stats=False)
    config = arguments.create_engine_config()
    config.cache_config.num_gpu_blocks = 100
    return config


def prompt(num_tokens: int) -> list[int]:
    return [number % 7 for number in range(num_tokens)]


@DEPTHS
@pytest.mark.parametrize("num_tokens", [1, 2, 3, 4, 5, 6, 7, 8, 9, 31, 32, 33, 100])
def test_twenty_paths_compute_the_prompt_and_one_token_each(config: VllmConfig, num_tokens: int, depth: int) -> None:
    engine = SymbolicEngine(config, depth=depth)
    names = [engine.add(prompt(num_tokens), max_tokens=1 + BLOCK) for _ in range(20)]
    engine.run()
    assert [engine.num_computed[name] - BLOCK for name in names] == [num_tokens, *[1] * 19]
    assert engine.num_uncached == num_tokens + 19


@DEPTHS
def test_a_request_that_comes_later_copies_from_one_that_runs(config: VllmConfig, depth: int) -> None:
    engine = SymbolicEngine(config, depth=depth)
    engine.add([*prompt(10), 1, 2, 3], max_tokens=20)
    for _ in range(7):
        engine.step()
    beginning, same, other = engine.add(prompt(11)), engine.add([*prompt(10), 1, 2, 3]), engine.add([*prompt(9), 5, 5])
    engine.run()
    computed = {name: engine.num_computed[name] - 3 for name in (beginning, same, other)}
    assert computed == {beginning: 1, same: 1, other: 11 - 2 * BLOCK}


@DEPTHS
def test_what_has_another_salt_or_adapter_is_computed_anew(config: VllmConfig, depth: int) -> None:
    for num_tokens in (3, 7, 8):
        engine = SymbolicEngine(config, depth=depth)
        owners = [("", 0), ("ann", 0), ("bob", 0), ("ann", 1), ("ann", 2), ("", 1)]
        names = [[engine.add(prompt(num_tokens), salt=salt, lora=lora) for _ in "ab"] for salt, lora in owners]
        engine.run()
        assert [[engine.num_computed[name] - 3 for name in pair] for pair in names] == [[num_tokens, 1]] * len(owners)


@DEPTHS
@pytest.mark.parametrize("num_tokens", [3, 11, 12])
def test_what_may_read_nothing_or_less_from_the_cache_does(config: VllmConfig, depth: int, num_tokens: int) -> None:
    engine = SymbolicEngine(config, depth=depth)
    engine.add(prompt(num_tokens), max_tokens=20)
    engine.step()
    everywhere = engine.add(prompt(num_tokens), prompt_logprobs=1)
    limit = num_tokens - 1
    at_the_end = engine.add(prompt(num_tokens), skip_reading_prefix_cache=False, extra_args={LIMIT: limit})
    engine.run()
    assert engine.num_computed[everywhere] - 3 == num_tokens
    assert engine.num_computed[at_the_end] - 3 == num_tokens - limit // BLOCK * BLOCK


@DEPTHS
@pytest.mark.parametrize("steps_before", [1, 2, 3])
def test_where_the_first_goes_the_others_wait_for_no_second(config: VllmConfig, depth: int, steps_before: int) -> None:
    engine = SymbolicEngine(config, depth=depth)
    first, *others = [engine.add(prompt(2 * STEP_TOKENS + 3), max_tokens=2) for _ in range(20)]
    for _ in range(steps_before):
        engine.step()
    engine.abort(first)
    assert engine.run() <= 6, "not one after the other"
    assert sum(engine.num_computed[name] - 1 for name in others) <= 2 * STEP_TOKENS + 3 * 20


@DEPTHS
def test_where_each_ends_with_its_first_token_none_waits_for_a_second_time(config: VllmConfig, depth: int) -> None:
    engine = SymbolicEngine(config, depth=depth)
    for _ in range(8):
        engine.add(prompt(7), ignore_eos=False, stop_token_ids=[0, 1, 2])
    assert engine.run() <= 2 + depth


@DEPTHS
def test_paths_of_one_token_wait_for_nothing(config: VllmConfig, depth: int) -> None:
    engine = SymbolicEngine(config, depth=depth)
    for _ in range(8):
        engine.add(prompt(7), max_tokens=1)
    assert engine.run() == depth


PROMPTS = some.builds(
    lambda length, change: [*prompt(length), *change], some.integers(1, 14), some.lists(some.integers(0, 1), max_size=2)
)
ADD = some.builds(
    lambda tokens, **options: lambda engine: engine.add(tokens, **options),
    PROMPTS,
    salt=some.sampled_from(["", "", "ann"]),
    lora=some.sampled_from([0, 0, 0, 1, 2]),
    max_tokens=some.integers(1, 9),
    prompt_logprobs=some.sampled_from([None, None, None, 1]),
)
ABORT = some.builds(lambda number: lambda engine: engine.abort(f"r{number}"), some.integers(0, 20))
STEP = some.just(SymbolicEngine.step)


@settings(deadline=None, max_examples=300)
@given(
    deeds=some.lists(some.one_of(ADD, ADD, STEP, STEP, ABORT), max_size=40),
    num_blocks=some.integers(8, 40),
    depth=some.integers(1, 2),
)
def test_each_request_reads_its_own_keys_and_values_whatever_comes_and_goes(
    config: VllmConfig, deeds: list[Callable[[SymbolicEngine], object]], num_blocks: int, depth: int
) -> None:
    """With few blocks, requests are preempted and begin again. The symbolic engine compares each place that is read."""
    engine = SymbolicEngine(config, num_blocks=num_blocks, depth=depth)
    for deed in deeds:
        deed(engine)
    engine.run()
