"""Which of the recorded tokens are probed: few, because a first token waits for them."""

from __future__ import annotations

from dataclasses import replace

from graft.adapters.reference import Reference, ReferenceRow

_MIN_SCORED_TOKENS = 8


def choose_probes(reference: Reference, *, max_tokens: int, max_model_tokens: int) -> tuple[ReferenceRow, ...]:
    """Rows with short prompts first, cut so that `max_tokens` run in all and no row takes more than half of them.

    What comes behind a token does not change its probability, so a row may be cut anywhere behind its prompt. Where
    every prompt is longer than that, the shortest runs alone with a few tokens behind it. Empty where no row fits the
    context, which holds `max_model_tokens`, one of them to generate.
    """
    chosen: list[ReferenceRow] = []
    left = max_tokens
    for row in sorted(reference.rows, key=lambda row: row.num_prompt_tokens):
        length = min(max(max_tokens // 2, 2), left)
        if not chosen:
            length = max(length, row.num_prompt_tokens + _MIN_SCORED_TOKENS)
        length = min(length, len(row.token_ids), max_model_tokens - 1)
        if length <= row.num_prompt_tokens:
            break
        chosen.append(_cut(row, length))
        left -= length
    return tuple(chosen)


def _cut(row: ReferenceRow, length: int) -> ReferenceRow:
    return replace(row, token_ids=row.token_ids[:length], logprobs=row.logprobs[: length - row.num_prompt_tokens])
