"""Which of the recorded tokens are probed: few, because a first token waits for them."""

from __future__ import annotations

from dataclasses import replace

from graft.adapters.folder.reference import Reference, ReferenceRow

_MIN_SCORED_TOKENS = 8


def choose_probes(reference: Reference, *, max_tokens: int, max_model_tokens: int) -> tuple[ReferenceRow, ...]:
    """The row that has most to score within `max_tokens`, and others beside it only where that is less than half.

    Rows that are asked for together may take a step of the engine each, so one is best. What comes behind a token does
    not change its probability: a row may be cut anywhere behind its prompt. Behind a long prompt a few tokens are
    scored even beyond `max_tokens`. Empty where no row fits the context, which holds `max_model_tokens`, one of them to
    generate.
    """
    fitting = []
    for row in reference.rows:
        length = min(max(max_tokens, row.num_prompt_tokens + _MIN_SCORED_TOKENS), max_model_tokens - 1)
        if length > row.num_prompt_tokens:
            fitting.append(_cut(row, length))
    chosen: list[ReferenceRow] = []
    num_tokens = num_scored = 0
    for row in sorted(fitting, key=lambda row: (-len(row.logprobs), len(row.token_ids))):
        if not chosen or (num_scored * 2 < max_tokens and num_tokens + len(row.token_ids) <= max_tokens):
            chosen.append(row)
            num_tokens += len(row.token_ids)
            num_scored += len(row.logprobs)
    return tuple(chosen)


def _cut(row: ReferenceRow, length: int) -> ReferenceRow:
    return replace(row, token_ids=row.token_ids[:length], logprobs=row.logprobs[: length - row.num_prompt_tokens])
