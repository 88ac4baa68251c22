"""Whether a lesson can be learned: all that is wrong with it at once."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from graft.training.objective.tokens.batch import Datum
from graft.training.objective.tokens.losses import TOKEN_LOSSES, TokenLoss
from graft.training.service.learning.trainee import Lesson
from graft.training.service.refusal import Kind, Refusal

_MOST_TOLD = 5


def loss_of(name: str) -> TokenLoss:
    """Raises ``Refusal``."""
    if (loss := TOKEN_LOSSES.get(name)) is None:
        raise Refusal(Kind.INVALID, f"the loss {name!r} is none of {', '.join(TOKEN_LOSSES)}.")
    return loss


def checked(
    name: str,
    data: Sequence[Datum],
    options: Mapping[str, Any],
    reasons: Sequence[str],
    *,
    num_tokens: int,
    max_tokens: int,
) -> Lesson:
    """``reasons``: what was wrong before. ``num_tokens``: of the vocabulary; ``max_tokens``: of a text.

    Raises ``Refusal``.
    """
    loss = loss_of(name)
    if not data:
        raise Refusal(Kind.INVALID, "there are no data: send one datum at least.")
    found = [*reasons, *_wrong_options(loss, options)]
    for number, one in enumerate(data):
        told = list(_wrong(one, loss, num_tokens, max_tokens))
        if one.given.keys() != data[0].given.keys():
            told.append(f"is given {_names(one.given)}, and datum 0 {_names(data[0].given)}")
        found += [f"datum {number} {one}" for one in told]
    if found:
        more = f"; and {len(found) - _MOST_TOLD} more" if len(found) > _MOST_TOLD else ""
        raise Refusal(Kind.INVALID, f"{'; '.join(found[:_MOST_TOLD])}{more}.")
    return Lesson(data=data, loss=loss, options=options)


def _wrong(one: Datum, loss: TokenLoss, num_tokens: int, max_tokens: int) -> Iterator[str]:
    num = len(one.input_ids)
    if not 1 <= num <= max_tokens:
        yield f"has {num} tokens; it may have 1 to {max_tokens}"
    if len(one.target_ids) != num:
        yield f"has {len(one.target_ids)} targets for {num} tokens"
    if (wrong := next((id for id in (*one.input_ids, *one.target_ids) if not 0 <= id < num_tokens), None)) is not None:
        yield f"has the token {wrong}; tokens are from 0 to {num_tokens - 1}"
    if missing := [name for name in loss.needs if name not in one.given]:
        yield f"lacks {', '.join(missing)}"
    if unknown := sorted(one.given.keys() - {*loss.needs, *loss.options}):
        yield f"is given {', '.join(unknown)}, which this loss does not look at"
    for name, values in one.given.items():
        if len(values) != num:
            yield f"has {len(values)} {name} for {num} tokens"
        elif not all(map(math.isfinite, values)):
            yield f"has {name} that are no finite numbers"


def _wrong_options(loss: TokenLoss, options: Mapping[str, Any]) -> Iterator[str]:
    for name, value in options.items():
        if name not in loss.options:
            yield f"the option {name!r} is none of this loss, whose options are {', '.join(loss.options) or 'none'}"
        elif not isinstance(value, float) or not math.isfinite(value):
            yield f"the option {name!r} is {value!r}; it must be a finite number"


def _names(given: Mapping[str, Any]) -> str:
    return ", ".join(sorted(given)) or "nothing"
