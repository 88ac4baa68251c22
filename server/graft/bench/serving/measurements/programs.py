"""What a prompt program costs over the same request written by hand."""

from __future__ import annotations

import random
import time
from collections.abc import Awaitable, Callable

from graft.bench.serving.measurements.workbench import Window, Workbench
from graft.bench.serving.peers.graft_server import GraftServer
from graft.bench.serving.processes import BenchFailed
from graft.client import AsyncClient

_PREFIX_TOKENS, _ANSWER_TOKENS, _FEW_TOKENS = 900, 64, 8
_PAIRS_PER_PAIR = 5
"""A few percent show only in many pairs."""

Ask = Callable[[str, int], Awaitable[tuple[str, int]]]
"""A question and a number of tokens → the answer and the prompt's length in tokens."""


async def program_over_raw(bench: Workbench, server: GraftServer) -> None:
    """Seconds of a few-shot program of about 900 tokens ÷ of `Generate` with its text, both in the prefix cache."""
    async with AsyncClient(server.address) as client:
        demonstrations = _demonstrations()
        await client.push_prompt("reversed", _program(demonstrations), labels=["production"])

        async def by_program(question: str, num_tokens: int) -> tuple[str, int]:
            run = await client.run_prompt("reversed", {"word": question}, max_tokens=num_tokens, temperature=0.0)
            return run.answer, run.usage.prompt_tokens

        async def by_hand(question: str, num_tokens: int) -> tuple[str, int]:
            prompt = f"{demonstrations}{question} ->"
            answer = await client.generate(prompt, stop="\n", max_tokens=num_tokens, temperature=0.0)
            return answer.text, answer.usage.prompt_tokens

        await _check_alike(by_program, by_hand)
        num_pairs = bench.num_pairs * _PAIRS_PER_PAIR
        for name, num_tokens in (("program_overhead", _ANSWER_TOKENS), ("program_overhead_short", _FEW_TOKENS)):
            await bench.compare(
                name, _seconds(by_program, num_tokens), _seconds(by_hand, num_tokens), num_pairs=num_pairs
            )


async def _check_alike(by_program: Ask, by_hand: Ask) -> None:
    (one, one_length), (other, other_length) = await by_program("lamp", 4), await by_hand("lamp", 4)
    if (one.strip(), one_length) != (other.strip(), other_length):
        raise BenchFailed(f"the two prompts differ: {one!r} after {one_length} tokens, {other!r} after {other_length}")


def _seconds(ask: Ask, num_tokens: int) -> Window:
    async def measure(pair: int) -> float:
        question = "".join(random.Random(f"question/{pair}").choices("abcdefgh", k=6))
        begin = time.perf_counter()
        await ask(question, num_tokens)
        return time.perf_counter() - begin

    return measure


def _demonstrations() -> str:
    draw = random.Random("demonstrations")
    lines = ""
    while len(lines) < _PREFIX_TOKENS:
        word = "".join(draw.choices("abcdefghijklmnop", k=6))
        lines += f"{word} -> {word[::-1]}\n"
    return lines


def _program(demonstrations: str) -> dict[str, object]:
    pairs = [line.split(" -> ") for line in demonstrations.splitlines()]
    return {
        "prompt": "{{demonstrations}}{{word}} ->",
        "demonstrating": {"prompt": "{{word}} ->"},
        "demonstrations": [{"inputs": {"word": word}, "output": output} for word, output in pairs],
    }
