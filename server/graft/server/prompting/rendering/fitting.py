"""Which demonstrations stand in the prompt where not all of them fit: those farthest from the query go first."""

from __future__ import annotations

from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate

from graft.server.errors import BadInput, Violation
from graft.server.prompting.asking import Written
from graft.server.prompting.rendering.writing import Draft

NumTokens = Callable[[Written], Awaitable[int]]
NumTokensEach = Callable[[Sequence[str]], Awaitable[list[int]]]

Sizes = Callable[[Sequence[int]], Awaitable[list[int]]]

_COUNTED_TOGETHER = 64
_NUM_PROGRAMS = 128
# After so many, the middle is tried.
_GUESSES = 4


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """The prompt that fits, its tokens, and which demonstrations it shows, in their order, and does not show."""

    written: Written
    num_tokens: int
    shown: tuple[int, ...]
    dropped: tuple[int, ...]


class DemonstrationTokens:
    """How many tokens each demonstration of a program takes, counted once. Bounded; the programs used last stay."""

    def __init__(self, count: NumTokensEach) -> None:
        self._count = count
        self._known: OrderedDict[str, dict[int, int]] = OrderedDict()

    async def of(self, digest: str | None, draft: Draft, indices: Sequence[int]) -> list[int]:
        """Tokens of these demonstrations, each alone. `digest` is the program's; None: it is not remembered."""
        known: dict[int, int] = {}
        if digest is not None:
            known = self._known.setdefault(digest, known)
            self._known.move_to_end(digest)
            if len(self._known) > _NUM_PROGRAMS:
                self._known.popitem(last=False)
        new = [index for index in indices if index not in known]
        texts = [draft.texts(index) for index in new]
        counts = iter(await self._count([text for each in texts for text in each]) if new else [])
        for index, each in zip(new, texts, strict=True):
            known[index] = sum(next(counts) for _ in each)
        return [known[index] for index in indices]


async def fit(
    draft: Draft,
    order: Sequence[int],
    nearest: Sequence[int],
    *,
    max_prompt_tokens: int,
    max_model_tokens: int,
    num_tokens: NumTokens,
    sizes: Sizes,
) -> Fitted:
    """The prompt with as many demonstrations as fit into `max_prompt_tokens`.

    Those too long for any prompt are dropped, then the farthest first, never anything else. `order` is how they stand
    in the prompt, `nearest` the same indices with the likest to the query first. Raises `BadInput` where the prompt
    does not fit without any.
    """

    async def fitted(shown: frozenset[int]) -> Fitted:
        kept = tuple(index for index in order if index in shown)
        written = draft.written(kept)
        dropped = tuple(sorted(frozenset(order) - shown))
        return Fitted(written=written, num_tokens=await num_tokens(written), shown=kept, dropped=dropped)

    near = await _nearest(nearest, max_prompt_tokens, sizes)
    if len(near) == len(nearest) and sum(near.values()) <= max_prompt_tokens:
        whole = await fitted(frozenset(near))
        if whole.num_tokens <= max_prompt_tokens:
            return whole
    bare = await fitted(frozenset())
    room = max_prompt_tokens - bare.num_tokens
    if room < 0:
        raise BadInput(Violation(field="variables", problem=_too_long(bare, max_prompt_tokens, max_model_tokens)))
    usable = {index: size for index, size in near.items() if size <= room}
    return await _most(tuple(usable), tuple(usable.values()), bare, fitted, max_prompt_tokens)


async def _nearest(nearest: Sequence[int], room: int, sizes: Sizes) -> dict[int, int]:
    """The tokens of the nearest demonstrations, until there are more of them than could stand in any prompt."""
    found: dict[int, int] = {}
    total = 0
    for begin in range(0, len(nearest), _COUNTED_TOGETHER):
        some = nearest[begin : begin + _COUNTED_TOGETHER]
        counted = await sizes(some)
        found |= zip(some, counted, strict=True)
        # Together they may take fewer tokens than each alone.
        total += sum(size for size in counted if size <= room)
        if total > 2 * room:
            break
    return found


async def _most(
    nearest: Sequence[int],
    sizes: Sequence[int],
    bare: Fitted,
    fitted: Callable[[frozenset[int]], Awaitable[Fitted]],
    max_prompt_tokens: int,
) -> Fitted:
    """With the most of the nearest that fit. Sizes say where to look, and counting the whole prompt decides."""
    ends = list(accumulate(sizes, initial=0))
    best, low, high = bare, 0, len(nearest) + 1
    for step in range(high):
        if high - low <= 1:
            break
        guess = bisect_right(ends, ends[low] + max_prompt_tokens - best.num_tokens) - 1
        if step >= _GUESSES:
            guess = (low + high) // 2
        count = min(max(guess, low + 1), high - 1)
        tried = await fitted(frozenset(nearest[:count]))
        if tried.num_tokens <= max_prompt_tokens:
            best, low = tried, count
        else:
            high = count
    return best


def prompt_room(max_model_tokens: int, max_tokens: int) -> int:
    """Tokens that a prompt may have where so many are to be generated behind it."""
    return max_model_tokens - max_tokens


def _too_long(bare: Fitted, most: int, context: int) -> str:
    none = " without any demonstration" if bare.dropped else ""
    if most < 1:
        return (
            f"leave no room: the context holds {context} tokens, {context - most} of them to generate: lower max_tokens"
        )
    return (
        f"make a prompt of {bare.num_tokens} tokens{none}; the context holds {context}, {context - most} of them to "
        f"generate: at most {most} are allowed, shorten it by {bare.num_tokens - most}, or lower max_tokens"
    )
