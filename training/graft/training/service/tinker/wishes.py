"""From the SDK's sampling parameters to what the server is asked for."""

from __future__ import annotations

from collections.abc import Sequence

from graft.training.service.refusal import Kind, Refusal
from graft.training.service.sessions.sampler import Wish, wrong_prompt
from graft.training.service.tinker.bodies import Sample


def wish_of(said: Sample, *, num_tokens: int, max_tokens: int) -> Wish:
    """``num_tokens``: of the vocabulary; ``max_tokens``: of a prompt with its answer. Raises ``Refusal``."""
    ids = [id for chunk in said.prompt.chunks for id in chunk.tokens]
    reasons = wrong_prompt(ids, num_tokens=num_tokens, max_tokens=max_tokens)
    last = said.prompt_logprobs_last_n
    if last is not None and not (said.prompt_logprobs and last < len(ids)):
        reasons.append(f"prompt_logprobs_last_n is {last}: it goes with prompt_logprobs, and is less than {len(ids)}")
    if reasons:
        raise Refusal(Kind.INVALID, f"{'; '.join(reasons)}.")
    params, room = said.sampling_params, max_tokens - len(ids)
    texts, stop_ids = _stops(params.stop)
    return Wish(
        ids=ids,
        num=said.num_samples,
        max_tokens=min(params.max_tokens or room, room),
        temperature=params.temperature,
        top_p=params.top_p,
        top_k=params.top_k if params.top_k > 0 else None,
        seed=params.seed,
        stop=texts,
        stop_ids=stop_ids,
        ignores_end=params.stop == [],
        alternatives=said.topk_sample_logprobs,
        scores_prompt=bool(said.prompt_logprobs),
        num_scored=last,
    )


def _stops(stop: str | Sequence[str] | Sequence[int] | None) -> tuple[list[str], list[int]]:
    """Texts and tokens. An empty list stops nowhere, not even at the base's own end."""
    each = [stop] if isinstance(stop, str) else list(stop or ())
    return [one for one in each if isinstance(one, str)], [one for one in each if isinstance(one, int)]
