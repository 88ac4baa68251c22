"""What serving asks of an engine: values and one Protocol. No vLLM here; no transport either."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from graft.adapters.folder.head import Head

MIN_ROOM_TOKENS = 2
"""What a soft prompt leaves of the context at least: a token to read and one to generate."""


class EngineError(Exception):
    """The engine could not answer."""


class EngineDied(EngineError):
    """The engine's process ended while the request ran, or is being replaced. The request may be tried again."""


class InvalidRequest(EngineError, ValueError):
    """The request cannot be run: names the value, the limit and the remedy. `field` is the request's field."""

    def __init__(self, message: str, *, field: str | None = None) -> None:
        super().__init__(message)
        self.field = field


class LoadFailed(EngineError):
    """The engine refused an adapter; it goes on serving all others."""


@dataclass(frozen=True, kw_only=True)
class EngineAdapter:
    """A version as the engine knows it: its name is the digest, its path content-addressed, its id never reused.

    One with `num_virtual_tokens` is a soft prompt, which stands before every prompt and needs no slot; else a LoRA,
    which may bring a `head`: then it classifies.
    """

    digest: str
    engine_id: int
    path: Path
    num_virtual_tokens: int = 0
    head: Head | None = None


@dataclass(frozen=True, kw_only=True)
class Prompt:
    """What stands before the generated text: ids of the vocabulary, and the text that they are of where it was one."""

    token_ids: Sequence[int]
    text: str | None = None


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How tokens are drawn; the defaults are greedy decoding."""

    max_tokens: int = 128
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    seed: int | None = None
    stop: tuple[str, ...] = ()
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0
    json_schema: str | None = None
    regex: str | None = None
    options: tuple[str, ...] = ()
    """Of json_schema (as text), regex and options, one at most: what each choice follows, or which texts it may be."""
    ignore_eos: bool = False
    num_choices: int = 1
    logprobs: int | None = None


@dataclass(frozen=True, kw_only=True)
class TokenLogprob:
    """One token and its natural-log probability, with the likeliest alternatives where they were asked for.

    `token` is the text of its `bytes`; where they alone are no text, they are written `\\xe2\\x82`.
    """

    token_id: int
    token: str
    logprob: float
    bytes: bytes = b""
    alternatives: tuple[TokenLogprob, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Delta:
    """What one choice grew by. `finish_reason` is `stop` or `length` in the choice's last delta, else None."""

    choice: int
    text: str
    token_ids: tuple[int, ...]
    logprobs: tuple[TokenLogprob, ...] = ()
    finish_reason: str | None = None
    num_cached_tokens: int = 0


@dataclass(frozen=True, kw_only=True)
class ContinuationScore:
    """Log-probabilities (natural) of one continuation's tokens given the prompt.

    `num_cached_tokens` of the prompt were not computed anew.
    """

    tokens: tuple[TokenLogprob, ...]
    is_greedy: bool
    num_cached_tokens: int = 0

    @property
    def logprob(self) -> float:
        return sum(token.logprob for token in self.tokens)


@dataclass(frozen=True, kw_only=True)
class HeadOutputs:
    """What an adapter's head says of one prompt: a number (a logit) for each of its outputs, in their order.

    `num_cached_tokens` of the prompt were not computed anew.
    """

    logits: tuple[float, ...]
    num_cached_tokens: int = 0


@dataclass(frozen=True, kw_only=True)
class EngineInfo:
    """Facts about the running engine. `num_cache_blocks`: of its KV cache; None where it has none.

    `max_virtual_tokens`: of a soft prompt; 0 where it takes none. `max_labels`: of a head, likewise.

    `instruction_sets`: what its processes use of the processor, part by part.
    """

    pid: int
    engine_version: str
    lora_kernel: str
    max_model_tokens: int
    num_slots: int
    max_rank: int
    max_virtual_tokens: int = 0
    max_labels: int = 0
    num_cache_blocks: int | None = None
    instruction_sets: Mapping[str, str] = field(default_factory=dict)


class Engine(Protocol):
    """One base with adapter slots. Every call may raise `EngineDied`.

    What the engine keeps of prompts is used again only for the same `cache_salt`.
    """

    def generate(
        self,
        prompt_token_ids: Sequence[int],
        sampling: Sampling,
        *,
        request_id: str,
        adapter: EngineAdapter | None,
        cache_salt: str | None = None,
    ) -> AsyncIterator[Delta]:
        """Stream the choices' deltas. Closing the iterator aborts the request in the engine.

        An adapter's virtual tokens stand before `prompt_token_ids` and take their places in the context.
        Raises `InvalidRequest` for out-of-range ids, an empty or over-long prompt, unusable sampling values.
        """
        ...

    async def score(
        self,
        prompt_token_ids: Sequence[int],
        continuation_token_ids: Sequence[int],
        *,
        request_id: str,
        adapter: EngineAdapter | None,
        cache_salt: str | None = None,
    ) -> ContinuationScore:
        """Log-probabilities of a continuation after a prompt (both non-empty).

        The prompt is computed once for all continuations that are scored after it, at once or one after another.
        """
        ...

    async def classify(
        self, prompt_token_ids: Sequence[int], *, request_id: str, adapter: EngineAdapter, cache_salt: str | None = None
    ) -> HeadOutputs:
        """What the adapter's head says behind the prompt's last token. Raises `InvalidRequest` as `generate` does."""
        ...

    def prepare(self, digest: str, path: Path) -> None:
        """A version whose sound files are at `path` may be loaded soon: begin what can be done beside the slots.

        Returns at once, from any thread; what goes wrong is told by `load`.
        """
        ...

    async def load(self, adapter: EngineAdapter) -> None:
        """Bring an adapter into a slot, or a soft prompt into memory; raises `LoadFailed`. The caller keeps within
        `EngineInfo.num_slots`.
        """
        ...

    async def unload(self, adapter: EngineAdapter) -> None:
        """Let an adapter go. The caller holds no lease on it."""
        ...

    async def loaded(self) -> frozenset[int]:
        """Engine ids that sit in the engine now."""
        ...

    async def info(self) -> EngineInfo: ...

    async def canary(self) -> None:
        """Generate one token on the base; raises `EngineError` or never returns where the engine is ill."""
        ...

    async def close(self) -> None:
        """End the engine's process and wait for it."""
        ...
