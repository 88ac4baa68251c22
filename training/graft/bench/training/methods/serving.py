"""The served answers: of all adapters by one server, hot-swapped, and of each new base by one of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from graft.bench.training.methods.task import MAX_TOKENS
from graft.client import Client
from graft.training.adapt.made.engine_ranks import engine_rank
from graft.training.tour.server import served

_SLOTS, _AT_ONCE = 4, 16


def adapters_answers(adapters: Mapping[str, Path], prompts: Sequence[str], *, rank: int) -> dict[str, list[str]]:
    """Of each adapter by name; ``rank`` is the largest of them."""
    found = {}
    with served("--num-slots", str(_SLOTS), "--max-rank", str(engine_rank(rank))) as address, Client(address) as client:
        for name, folder in adapters.items():
            client.push_adapter(folder, name=name, alias="stable", timeout=300)
            found[name] = _answers(client, name, prompts)
    return found


def base_answers(folder: Path, prompts: Sequence[str]) -> list[str]:
    """Of a base that was trained or merged, in bf16: four bits would round away much of how it changed."""
    with (
        served("--base", str(folder), "--quantization", "bf16", "--num-slots", "0") as address,
        Client(address) as client,
    ):
        return _answers(client, "", prompts)


def _answers(client: Client, model: str, prompts: Sequence[str]) -> list[str]:
    def ask(prompt: str) -> str:
        return client.generate(prompt, model=model, max_tokens=MAX_TOKENS, temperature=0.0, timeout=120).choices[0].text

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        return list(pool.map(ask, prompts))
