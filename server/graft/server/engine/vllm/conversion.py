"""Between our values and vLLM's: sampling parameters, deltas, scores, errors."""

from __future__ import annotations

import contextlib
import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from vllm import SamplingParams
from vllm.exceptions import VLLMClientError
from vllm.outputs import CompletionOutput, RequestOutput
from vllm.sampling_params import RequestOutputKind, StructuredOutputsParams
from vllm.v1.engine.exceptions import EngineDeadError, EngineGenerateError

from graft.server.engine.engine import (
    ContinuationScore,
    Delta,
    EngineDied,
    EngineError,
    HeadOutputs,
    InvalidRequest,
    Sampling,
    TokenLogprob,
)
from graft.server.engine.tokenizer.token_bytes import TokenBytes, spelled
from graft.server.engine.vllm.inside.cached_prefix import LIMIT

_log = logging.getLogger(__name__)
_MAX_CHOICES = 2**16
FAILED = "the engine failed on this request: the server's log has the details"


@contextlib.contextmanager
def engine_errors() -> Iterator[None]:
    """vLLM's errors as ours. A plain ValueError is no refusal of vLLM's but a fault, and goes through."""
    try:
        yield
    except EngineError:
        raise
    except EngineDeadError as error:
        raise EngineDied("the engine's process ended while the request ran; it is being replaced, try again") from error
    except EngineGenerateError as error:
        _log.error("the engine failed on a request", exc_info=error)
        raise EngineError(FAILED) from error
    except VLLMClientError as error:
        # Its own text goes on with the parameter and its whole value.
        text = str(error.args[0] if error.args else error)
        raise InvalidRequest(text, field=getattr(error, "parameter", None)) from error


def check_token_ids(ids: Sequence[int], vocab_size: int, max_tokens: int) -> None:
    """Raises `InvalidRequest`; an id outside the vocabulary would read past the embedding."""
    if not ids:
        raise InvalidRequest("the prompt is empty; give at least one token", field="prompt")
    if len(ids) >= max_tokens:
        raise InvalidRequest(
            f"the prompt has {len(ids)} tokens; the context holds {max_tokens}, one of them to generate: shorten it",
            field="prompt",
        )
    low, high = min(ids), max(ids)
    if low < 0 or high >= vocab_size:
        bad = low if low < 0 else high
        raise InvalidRequest(f"token id {bad} is outside the vocabulary of {vocab_size} ids", field="prompt")


def check_scored(prompt_ids: Sequence[int], continuation_ids: Sequence[int]) -> None:
    """Raises `InvalidRequest` where either side is empty."""
    if not prompt_ids:
        raise InvalidRequest("the prompt is empty; a first token has no probability without one", field="prompt")
    if not continuation_ids:
        raise InvalidRequest("a continuation is empty; give at least one token", field="continuations")


def with_choices(params: SamplingParams, num_choices: int) -> SamplingParams:
    """The same for several choices. vLLM refuses them of greedy sampling, where each is the same text: so be it.

    It checks when parameters are made, and makes each choice's from a shallow copy.
    """
    params.skip_clone = True
    params.n = num_choices
    return params


def likeliest_only(top_p: float, top_k: int) -> tuple[float, int]:
    """OpenAI's `top_p` begins at 0, where one token is left; vLLM's begins above."""
    return (1.0, 1) if top_p <= 0.0 else (top_p, top_k)


def usable_seed(seed: int | None) -> int | None:
    """vLLM takes -1 for no seed, also where a choice's number has been added: seeds below zero become large ones.

    Its runner on GPUs keeps seeds in 64 bits with a sign: a larger number would end the engine.
    """
    return None if seed is None else seed % (2**63 - _MAX_CHOICES)


def sampling_params(sampling: Sampling, structure: Mapping[str, Any] | None = None) -> SamplingParams:
    """`structure`, in vLLM's words, is what the reply must follow. Raises `InvalidRequest` for an unusable value."""
    top_p, top_k = likeliest_only(sampling.top_p, sampling.top_k)
    with engine_errors():
        params = SamplingParams(
            max_tokens=sampling.max_tokens,
            temperature=sampling.temperature,
            top_p=top_p,
            top_k=top_k,
            min_p=sampling.min_p,
            seed=usable_seed(sampling.seed),
            stop=list(sampling.stop) or None,
            presence_penalty=sampling.presence_penalty,
            frequency_penalty=sampling.frequency_penalty,
            repetition_penalty=sampling.repetition_penalty,
            ignore_eos=sampling.ignore_eos,
            logprobs=sampling.logprobs,
            structured_outputs=StructuredOutputsParams(**structure) if structure else None,
            output_kind=RequestOutputKind.DELTA,
        )
    return with_choices(params, sampling.num_choices)


def deltas(output: RequestOutput, bytes_of: TokenBytes) -> Iterator[Delta]:
    """One step's growth of each choice."""
    for choice in output.outputs:
        yield Delta(
            choice=choice.index,
            text=choice.text,
            token_ids=tuple(choice.token_ids),
            logprobs=_choice_logprobs(choice, bytes_of),
            finish_reason=_finish_reason(choice),
            num_cached_tokens=output.num_cached_tokens or 0,
        )


def scoring_params(limit: int) -> SamplingParams:
    """For log-probabilities of all of a prompt but its first `limit` tokens and one: these may come from the cache."""
    return SamplingParams(
        max_tokens=1,
        temperature=0.0,
        prompt_logprobs=1,
        detokenize=False,
        skip_reading_prefix_cache=False,
        extra_args={LIMIT: limit},
    )


def classifying_params(num_labels: int) -> SamplingParams:
    """For a head's outputs in the place of the next token (see `lora.head`)."""
    return SamplingParams(
        max_tokens=1,
        temperature=0.0,
        logprobs=num_labels + 1,
        detokenize=False,
        output_kind=RequestOutputKind.FINAL_ONLY,
    )


def head_outputs(output: RequestOutput, num_labels: int) -> HeadOutputs:
    """Of a reply to `classifying_params`. Raises `EngineError` where it holds no such outputs."""
    (choice,) = output.outputs
    _finish_reason(choice)
    found = choice.logprobs[0] if choice.logprobs else {}
    if not all(one in found and math.isfinite(found[one].logprob) for one in range(num_labels + 1)):
        raise EngineError("the head gave outputs that are no numbers: its adapter or the base overflows on this text")
    zero = found[num_labels].logprob
    logits = tuple(found[one].logprob - zero for one in range(num_labels))
    return HeadOutputs(logits=logits, num_cached_tokens=output.num_cached_tokens or 0)


def check_limit(output: RequestOutput, limit: int) -> None:
    """Raises `EngineError` where more came from the cache: what stands in its rows are no log-probabilities."""
    if (output.num_cached_tokens or 0) > limit:
        raise EngineError(
            f"the engine read {output.num_cached_tokens} tokens of a prompt from its cache where {limit} was the limit:"
            " the plugin that keeps the limit is not in force in its process"
        )


def score(output: RequestOutput, ids: Sequence[int], prompt_length: int, bytes_of: TokenBytes) -> ContinuationScore:
    """Log-probabilities of `ids[prompt_length:]` from a reply with `prompt_logprobs`, which may lack the first rows."""
    continuation = ids[prompt_length:]
    if len(output.prompt_logprobs or ()) <= len(continuation):
        raise EngineError("the engine answered without the prompt's log-probabilities")
    tokens, is_greedy = [], True
    for token_id, found in zip(continuation, output.prompt_logprobs[-len(continuation) :], strict=True):
        entry = found[token_id]
        is_greedy = is_greedy and entry.rank == 1
        tokens.append(_token(token_id, entry.logprob, bytes_of))
    num_cached = output.num_cached_tokens or 0
    return ContinuationScore(tokens=tuple(tokens), is_greedy=is_greedy, num_cached_tokens=num_cached)


def _finish_reason(choice: CompletionOutput) -> str | None:
    reason: str | None = choice.finish_reason
    if reason in ("abort", "error"):
        raise EngineDied(f"the engine ended the request early ({reason}); try again")
    return reason


def _choice_logprobs(choice: CompletionOutput, bytes_of: TokenBytes) -> tuple[TokenLogprob, ...]:
    if not choice.logprobs:
        return ()
    return tuple(
        _token_logprob(token_id, found, bytes_of)
        for token_id, found in zip(choice.token_ids, choice.logprobs, strict=True)
    )


def _token_logprob(token_id: int, found: Mapping[int, Any], bytes_of: TokenBytes) -> TokenLogprob:
    alternatives = tuple(
        _token(other, entry.logprob, bytes_of) for other, entry in sorted(found.items(), key=lambda item: item[1].rank)
    )
    return replace(_token(token_id, found[token_id].logprob, bytes_of), alternatives=alternatives)


def _token(token_id: int, logprob: float, bytes_of: TokenBytes) -> TokenLogprob:
    data = bytes_of(token_id)
    return TokenLogprob(token_id=token_id, token=spelled(data), bytes=data, logprob=logprob)
