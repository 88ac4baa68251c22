"""Classification, the same over gRPC and HTTP: prompts of what is to be classified, and what a head's outputs mean."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from graft.adapters.folder.head import BETWEEN_TEXTS, Head, Problem
from graft.server.engine.engine import HeadOutputs
from graft.server.engine.text import Text
from graft.server.runtime.violations import Violations

Source = str | list[int]


@dataclass(frozen=True, kw_only=True)
class Classified:
    """What a head says of one input: of each label its probability, or itself where it says a number.

    `label` is the likeliest, None beside a number, which has no `probs`.
    """

    label: str | None
    probs: tuple[float, ...]
    outputs: tuple[float, ...]


def pair(text: str, other: str | None) -> str:
    """A pair of texts as one, as decoders are trained on it."""
    return text if other is None else text + BETWEEN_TEXTS + other


async def prompts_of(sources: Mapping[str, Source], most: int | None, text: Text) -> list[list[int]]:
    """Ids of each source, under its field; of one longer than `most` tokens the last are cut off.

    Raises `BadInput` where one does not fit the context.
    """
    texts = {field: source for field, source in sources.items() if isinstance(source, str)}
    encoded = dict(zip(texts, await text.encode_all(texts), strict=True))
    prompts = {field: encoded[field] if isinstance(source, str) else source for field, source in sources.items()}
    violations = Violations()
    for field, ids in prompts.items():
        if most is not None and len(ids) > most:
            prompts[field] = text.shortened(ids, most) if field in texts else ids[:most]
        if not ids:
            violations.add(field, "has no tokens: give a text")
        text.check_fits(len(prompts[field]), field=field, violations=violations)
    violations.raise_any()
    return list(prompts.values())


def classified(found: HeadOutputs, head: Head) -> Classified:
    """Softmax where one label holds, sigmoid of each where several may, nothing of a number."""
    outputs = found.logits
    if head.problem is Problem.NUMBER:
        return Classified(label=None, probs=(), outputs=outputs)
    probs = tuple(map(_sigmoid, outputs)) if head.problem is Problem.SEVERAL else _softmax(outputs)
    return Classified(label=head.labels[outputs.index(max(outputs))], probs=probs, outputs=outputs)


def _softmax(logits: Sequence[float]) -> tuple[float, ...]:
    highest = max(logits)
    powers = [math.exp(one - highest) for one in logits]
    return tuple(one / math.fsum(powers) for one in powers)


def _sigmoid(logit: float) -> float:
    power = math.exp(-abs(logit))
    return (1.0 if logit >= 0 else power) / (1.0 + power)
