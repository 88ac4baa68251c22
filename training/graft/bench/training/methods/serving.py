"""The served answers: of a base's adapters by one server, hot-swapped, and of each new base by one of its own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from graft.bench.training.forks import StageFailed
from graft.bench.training.methods.said import Said
from graft.bench.training.methods.task import MAX_TOKENS
from graft.client import Client
from graft.client.errors import GraftClientError
from graft.training.adapt.made.engine_ranks import engine_rank
from graft.training.errors import first_line
from graft.training.tour.server import NotStarted, served

_SLOTS, _AT_ONCE = 4, 16


@dataclass(frozen=True, kw_only=True)
class Serving:
    """One server."""

    base: Path
    adapters: Mapping[str, Path]
    """By name; none where the base itself is asked."""
    rank: int = 1
    """The largest of them."""

    @property
    def flags(self) -> tuple[str, ...]:
        if self.adapters:
            return ("--base", str(self.base), "--num-slots", str(_SLOTS), "--max-rank", str(engine_rank(self.rank)))
        # Four bits would round away much of how it changed.
        return ("--base", str(self.base), "--quantization", "bf16", "--num-slots", "0")

    def answers(self, prompts: Sequence[str]) -> Iterator[tuple[str, Said | StageFailed]]:
        """Of each adapter by its name, or of the base by an empty one."""
        try:
            with served(*self.flags) as address, Client(address) as client:
                for name in self.adapters or ("",):
                    yield name, self._of(client, name, prompts)
        except NotStarted as error:
            yield from ((name, StageFailed(f"serving: {first_line(error)}")) for name in self.adapters or ("",))

    def _of(self, client: Client, name: str, prompts: Sequence[str]) -> Said | StageFailed:
        try:
            if name:
                client.push_adapter(self.adapters[name], name=name, alias="stable", timeout=300)
            return _answers(client, name, prompts)
        except GraftClientError as error:
            return StageFailed(f"serving: {first_line(error)}")


def _answers(client: Client, model: str, prompts: Sequence[str]) -> Said:
    def ask(prompt: str) -> tuple[list[int], str]:
        reply = client.generate(prompt, model=model, max_tokens=MAX_TOKENS, temperature=0.0, timeout=120)
        return list(reply.choices[0].token_ids), reply.choices[0].text

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        found = list(pool.map(ask, prompts))
    return Said(ids=[ids for ids, _ in found], texts=[text for _, text in found])
