"""Every kind of request once, before anybody asks: what a first use sets up is set up before readiness, and a kernel
that this machine cannot run is found before there are callers.

A new feature joins by a line in `COMPLETIONS` or `CHATS`. Every base has every kind: prompts come as token ids, so no
chat template is asked, and each prompt with its reply fits into the shortest context that may be set.
"""

from __future__ import annotations

import asyncio
import logging
import tempfile
from collections.abc import Callable, Coroutine, Iterator, Mapping
from pathlib import Path
from typing import Any

from vllm.platforms import current_platform

from graft.adapters.base.base import Base
from graft.server.engine.engine import EngineAdapter, EngineDied, EngineError, Prompt, Sampling
from graft.server.engine.openai import OpenAIBackend, OpenAIRequest
from graft.server.engine.vllm.engine import VllmEngine
from graft.server.engine.vllm.openai import VllmOpenAIBackend
from graft.server.engine.vllm.warm_up.adapter import write_warm_up_adapter, write_warm_up_soft_prompt

_log = logging.getLogger(__name__)

_SCHEMA = {
    "type": "object",
    "properties": {"a": {"type": "integer"}},
    "required": ["a"],
    "additionalProperties": False,
}
_TEXT = "12+39?"
# Ids that every vocabulary has: what they say does not matter.
_PROMPT = Prompt(token_ids=range(6), text=_TEXT)
_DRAWN = {"temperature": 1.0, "seed": 1}

COMPLETIONS: Mapping[str, Mapping[str, Any]] = {
    "one token": {"prompt": [0]},
    "plain": {},
    "stream": {"stream": True, "stream_options": {"include_usage": True}},
    "log-probabilities": {"logprobs": 2},
    "echo": {"echo": True, "logprobs": 1},
    "the prompt alone": {"echo": True, "logprobs": 1, "max_tokens": 0},
    "seed": _DRAWN,
    "top-p, top-k, min-p": {**_DRAWN, "top_p": 0.5, "top_k": 5, "min_p": 0.01},
    "penalties": {**_DRAWN, "frequency_penalty": 0.5, "presence_penalty": 0.5, "repetition_penalty": 1.1},
    "bias": {"logit_bias": {"1": 1.0}},
    "allowed tokens": {"allowed_token_ids": [1, 2, 3]},
    "bad words": {"bad_words": ["a", "bc"]},
    "tokens at least": {"min_tokens": 1, "stop_token_ids": [3]},
    "all that is written": {"ignore_eos": True, "skip_special_tokens": False, "include_stop_str_in_output": True},
    "several choices": {**_DRAWN, "n": 2},
    "several greedy choices": {"temperature": 0.0, "n": 2},
    "stop": {"stop": ["\n"]},
}

CHATS: Mapping[str, Mapping[str, Any]] = {
    "chat": {},
    "chat stream": {"stream": True},
    "chat log-probabilities": {"logprobs": True, "top_logprobs": 2},
    "JSON schema": {"response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": _SCHEMA}}},
    "JSON object": {"response_format": {"type": "json_object"}},
    "choice": {"structured_outputs": {"choice": ["a", "b"]}},
    "regular expression": {"structured_outputs": {"regex": "[ab]{1,2}"}},
    "grammar": {"structured_outputs": {"grammar": 'root ::= "a" | "b"'}},
}

LIKELIEST = (0, 1, 2, 4, 8, 15, 16)
"""How many of the likeliest tokens are told: one number for each kernel that a GPU compiles for them. These are made
for a power of two of columns, for one column and for multiples of sixteen; the token that was drawn has a column, too.
"""

# Far more than a large base needs on a busy processor, and an end to the wait for an engine that hangs.
_LIMIT_SECONDS = 600.0
# An id that no version ever gets, and a name that is no digest.
_ADAPTER_ID, _ADAPTER_NAME = 2**31 - 1, "warm-up"
_IDS = [5, 4, 3, 2, 1, 0]
# Nats between the same tokens once as embeddings and once as ids: rounding, which is that of equal sizes, is far less.
_MOST_APART = 0.2


class _NoMeter:
    def read(self, prompt: int, *, num_tokens: int, num_cached: int) -> None:
        pass

    def made(self, prompt: int, choice: int, num_tokens: int) -> None:
        pass

    def ended(self, prompt: int, choice: int) -> None:
        pass


async def warm_up(engine: VllmEngine, base: Base, *, each_alone: bool | None = None) -> int:
    """Pass once through every kind of request, on the base and on an adapter; returns how many kinds there were.

    `each_alone`: not in a batch only, whose widest row is what a kernel is compiled for; by default on a GPU.
    Raises `EngineError`, naming the kinds, where the engine refuses one, does not live through it or does not end it.
    """
    await _try({"a first token": _generate(engine, None)})  # alone: a batch would hide what one row alone does
    kinds = _kinds(engine, VllmOpenAIBackend(lambda: engine, base.name))
    await _try(kinds)
    if each_alone or (each_alone is None and not current_platform.is_cpu()):
        for name, kind in kinds.items():
            await _try({name: kind})
    if not (await engine.info()).num_slots:
        return len(kinds)
    return len(kinds) + await _try_adapter(engine, base) + await _try_soft_prompt(engine)


async def _try_adapter(engine: VllmEngine, base: Base) -> int:
    with tempfile.TemporaryDirectory(prefix="graft-warm-up-") as name:
        adapter = EngineAdapter(digest=_ADAPTER_NAME, engine_id=_ADAPTER_ID, path=Path(name))
        await asyncio.to_thread(write_warm_up_adapter, adapter.path, base)
        await _try({f"an adapter of {base.name} into a slot": lambda _: engine.load(adapter)})
        on_adapter = {"an adapter": _generate(engine, adapter), "an adapter's score": _score(engine, adapter)}
        await _try(on_adapter)
        await _try({"an adapter out of its slot": lambda _: engine.unload(adapter)})
    return len(on_adapter)


async def _try_soft_prompt(engine: VllmEngine) -> int:
    """One that is a token's own embedding must say what the token says. Where it does not, the base computes from ids
    beside embeddings: soft prompts are then not served. A process that takes no leading embeddings is found out, too.
    """
    if not engine.soft_prompts.max_tokens:
        return 0
    with tempfile.TemporaryDirectory(prefix="graft-warm-up-") as name:
        soft = EngineAdapter(digest=_ADAPTER_NAME, engine_id=_ADAPTER_ID, path=Path(name), num_virtual_tokens=1)
        await asyncio.to_thread(write_warm_up_soft_prompt, soft.path, await engine.embeddings(_IDS[:1]))
        await engine.load(soft)
        try:
            kinds = {"a soft prompt": _generate(engine, soft), "a soft prompt's score": _score(engine, soft)}
            await _try({**kinds, "the base beside it": _generate(engine, None)})
            said = await engine.score(_IDS[1:2], _IDS[2:], request_id="warm-up-virtual", adapter=soft)
            meant = await engine.score(_IDS[:2], _IDS[2:], request_id="warm-up-ids", adapter=None)
        finally:
            await engine.unload(soft)
    apart = [abs(one.logprob - other.logprob) for one, other in zip(said.tokens, meant.tokens, strict=True)]
    if not max(apart) <= _MOST_APART:
        engine.soft_prompts.max_tokens = 0
        _log.warning(
            "soft prompts are not served: %s computes otherwise from a token's embedding than from its id (by %.2f)",
            engine.llm.model_config.architecture,
            max(apart),
        )
    return len(kinds) + 1


Kind = Callable[[str], Coroutine[Any, Any, None]]


def _kinds(engine: VllmEngine, openai: OpenAIBackend) -> dict[str, Kind]:
    text, message = {"prompt": _TEXT, "max_tokens": 2}, {"role": "user", "content": _TEXT}
    kinds = {name: _over_http(openai, {**text, **body}) for name, body in COMPLETIONS.items()}
    kinds |= {
        name: _over_http(openai, {"messages": [message], "max_tokens": 8, **body}) for name, body in CHATS.items()
    }
    kinds |= _likeliest(openai)
    scores = {"score": _score(engine, None), "score of what is in the cache": _score_twice(engine)}
    return {**kinds, **scores, "JSON over gRPC": _generate(engine, None, json=True)}


def _likeliest(openai: OpenAIBackend) -> dict[str, Kind]:
    """Of a reply's tokens and of a prompt's, whose logits have another type."""
    echo = {"prompt": _TEXT, "max_tokens": 0, "echo": True}
    return {
        f"{count} likeliest tokens of {what}": _over_http(openai, {**body, "logprobs": count})
        for what, body in (("a reply", {"prompt": _TEXT, "max_tokens": 2}), ("a prompt", echo))
        for count in LIKELIEST
    }


def _over_http(openai: OpenAIBackend, body: dict[str, Any]) -> Kind:
    async def ask(request_id: str) -> None:
        prompt = Prompt(token_ids=body["prompt"]) if isinstance(body.get("prompt"), list) else _PROMPT
        request = OpenAIRequest(fields=body, prompts=[prompt])
        reply = await openai.answer(request, adapter=None, request_id=request_id, meter=_NoMeter())
        if reply.frames is not None:
            async for _ in reply.frames:
                pass

    return ask


def _generate(engine: VllmEngine, adapter: EngineAdapter | None, *, json: bool = False) -> Kind:
    schema = '{"type":"object","properties":{},"additionalProperties":false}' if json else None

    async def ask(request_id: str) -> None:
        sampling = Sampling(max_tokens=2, logprobs=1, json_schema=schema)
        async for _ in engine.generate([0], sampling, request_id=request_id, adapter=adapter):
            pass

    return ask


def _score(engine: VllmEngine, adapter: EngineAdapter | None) -> Kind:
    async def ask(request_id: str) -> None:
        await engine.score([0, 1], [2, 3], request_id=request_id, adapter=adapter)

    return ask


def _score_twice(engine: VllmEngine) -> Kind:
    """Fails where the engine's process does not keep the limit of what a score may read from the cache."""
    num_tokens = min(engine.block_tokens, engine.max_model_tokens - 2)

    async def ask(request_id: str) -> None:
        for time in ("first", "again"):
            await engine.score([1], [2] * num_tokens, request_id=f"{request_id}-{time}", adapter=None)

    return ask


async def _try(kinds: Mapping[str, Kind], limit_seconds: float = _LIMIT_SECONDS) -> None:
    """All at once: in a batch they take the time of the longest. Raises `EngineError`."""
    tasks = {kind: asyncio.ensure_future(ask(f"warm-up-{number}")) for number, (kind, ask) in enumerate(kinds.items())}
    try:
        await asyncio.wait(tasks.values(), timeout=limit_seconds)
        problems = list(_problems(tasks, limit_seconds))
    finally:
        for task in tasks.values():
            task.cancel()  # not awaited: where the engine hangs, so may its end
    if problems:
        raise EngineError("the engine was tried out before its first request and failed: " + "; ".join(problems))


def _problems(tasks: Mapping[str, asyncio.Future[None]], limit_seconds: float) -> Iterator[str]:
    errors = {kind: task.exception() for kind, task in tasks.items() if task.done()}
    if died := [kind for kind, error in errors.items() if isinstance(error, EngineDied)]:
        yield f"its process ended on {', '.join(died)}"
    for kind, error in errors.items():
        if error is not None and kind not in died:
            _log.error("the engine failed on %s", kind, exc_info=error)
            yield f"{kind}: {error}"
    if hung := [kind for kind in tasks if kind not in errors]:
        yield f"no end within {limit_seconds:g} s of {', '.join(hung)}"
