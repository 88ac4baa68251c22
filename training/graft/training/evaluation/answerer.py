"""Who is asked in an evaluation: a server, or a model in this process."""

from collections.abc import Mapping, Sequence
from typing import Protocol

Prompt = str | Sequence[Mapping[str, str]]
"""Text, or turns with ``role`` and ``content``."""


class Answerer(Protocol):
    """Continues prompts greedily and scores given continuations."""

    def complete(self, prompts: Sequence[Prompt], *, max_tokens: int, stop: str | None) -> list[str]:
        """The continuation of each prompt, without its end token, ending before ``stop``."""

    def score(self, prompts: Sequence[Prompt], continuations: Sequence[str]) -> list[list[float]]:
        """For each prompt, the log-probability in nats of each continuation."""
