"""A prompt as the model would read it, with what each part of it takes; nothing is generated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from graft.server.prompting.rendering.fitting import Fitted, NumTokensEach
from graft.server.prompting.rendering.writing import Draft


@dataclass(frozen=True, kw_only=True)
class Part:
    """A part of the prompt, and the tokens that it takes alone. `kind` is `text`, or a turn's role."""

    kind: str
    text: str
    num_tokens: int


@dataclass(frozen=True, kw_only=True)
class Preview:
    """The parts in their order, the tokens of all together, and the demonstrations that are shown and are not."""

    parts: tuple[Part, ...]
    num_tokens: int
    shown: tuple[int, ...]
    dropped: tuple[int, ...]
    notices: tuple[str, ...]
    variables: tuple[str, ...]


async def preview(
    draft: Draft,
    fitted: Fitted,
    *,
    count: NumTokensEach,
    notices: Sequence[str],
    variables: Sequence[str],
) -> Preview:
    """Parts of what was fitted: what comes before the demonstrations, each of these, and what comes behind them."""
    turns = [turn for turn in draft.turns(fitted.shown) if turn.content]
    counts = await count([turn.content for turn in turns])
    parts = tuple(
        Part(kind=turn.role, text=draft.shown(turn.content), num_tokens=num_tokens)
        for turn, num_tokens in zip(turns, counts, strict=True)
    )
    dropped = ", ".join(map(str, fitted.dropped[:20])) + (", …" if len(fitted.dropped) > 20 else "")
    said = (f"demonstrations left out, as they do not fit the window: {dropped}",) if dropped else ()
    return Preview(
        parts=parts,
        num_tokens=fitted.num_tokens,
        shown=fitted.shown,
        dropped=fitted.dropped,
        notices=(*notices, *said),
        variables=tuple(variables),
    )
