"""Which of the recorded tokens are probed: few, because a first token waits for them."""

from __future__ import annotations

from dataclasses import replace

from graft.adapters.reference import Reference, ReferenceRow

_MIN_SCORED_TOKENS = 8


def choose_probes(reference: Reference, *, max_tokens: int, max_model_tokens: int) -> tuple[ReferenceRow, ...]:
    """The row that has most to score within `max_tokens`, and others beside it only where that is less than half.

    Rows that are asked for together may take a step of the engine each, so one is best. What comes behind a token does
    not change its probability: a row may be cut anywhere behind its prompt. Where every prompt is longer than
    `max_tokens`, the shortest runs with a few tokens behind it. Empty where no row fits the context, which holds
    `max_model_tokens`, one of them to generate.
    """
    room = min(max_tokens, max_model_tokens - 1)
    fitting = [_cut(row, room) for row in reference.rows if row.num_prompt_tokens < room]
    if not fitting:
        return _shortest(reference, max_model_tokens - 1)
    chosen: list[ReferenceRow] = []
    num_tokens = num_scored = 0
    for row in sorted(fitting, key=lambda row: (-len(row.logprobs), len(row.token_ids))):
        if num_scored * 2 < max_tokens and num_tokens + len(row.token_ids) <= max_tokens:
            chosen.append(row)
            num_tokens += len(row.token_ids)
            num_scored += len(row.logprobs)
    return tuple(chosen)


def _shortest(reference: Reference, room: int) -> tuple[ReferenceRow, ...]:
    row = min(reference.rows, key=lambda row: row.num_prompt_tokens)
    length = min(row.num_prompt_tokens + _MIN_SCORED_TOKENS, room)
    return (_cut(row, length),) if length > row.num_prompt_tokens else ()


def _cut(row: ReferenceRow, length: int) -> ReferenceRow:
    return replace(row, token_ids=row.token_ids[:length], logprobs=row.logprobs[: length - row.num_prompt_tokens])
