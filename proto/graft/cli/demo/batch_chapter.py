"""The base and two adapters in one batch: every row gets its own model's answer."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

from graft.cli.demo.report import Report
from graft.cli.demo.rows import Example, num_right
from graft.cli.demo.variety import DATES_ISO, REVERSE, Trained, Variety
from graft.cli.load import TimedAnswer, ask
from graft.client import AsyncClient, SamplingOptions

NUM_EACH = 16
MIN_RIGHT_PERCENT = 75
_OPTIONS: SamplingOptions = {"max_tokens": 64, "temperature": 0.0, "stop": "\n"}


@dataclass(frozen=True, kw_only=True)
class Share:
    """What one model is asked in the batch."""

    model: str
    examples: list[Example]


def base_examples() -> list[Example]:
    """Sums that the base works out by itself; its answer ends in the sum."""
    pairs = [(17 * k % 89 + 10, 31 * k % 87 + 11) for k in range(1, NUM_EACH + 1)]
    return [Example(prompt=f"{a}+{b}?", answer=str(a + b)) for a, b in pairs]


async def show_batch(client: AsyncClient, trained: Mapping[Variety, Trained], report: Report) -> None:
    """Ask everything at once, then one model after another; the answers agree and are right."""
    shares = [
        Share(model="", examples=base_examples()),
        Share(model=DATES_ISO.name, examples=trained[DATES_ISO].examples[:NUM_EACH]),
        Share(model=REVERSE.name, examples=trained[REVERSE].examples[:NUM_EACH]),
    ]
    together = await asyncio.gather(*(_answers(client, share) for share in shares))
    overlap = _num_at_once([answer for answers in together for answer in answers])
    report.say(f"{sum(map(len, together))} requests to 3 models, up to {overlap} of them running at once")
    for share, answers in zip(shares, together, strict=True):
        _show(report, share, answers)


async def _answers(client: AsyncClient, share: Share) -> list[TimedAnswer]:
    return await asyncio.gather(*(ask(client, one.request, share.model, _OPTIONS) for one in share.examples))


def _show(report: Report, share: Share, answers: list[TimedAnswer]) -> None:
    name = share.model or "the base"
    failed = [answer.error for answer in answers if answer.error is not None]
    if failed:
        report.claim(f"{name} answers in the mixed batch", str(failed[0]), False)
        return
    report.show(share.examples[0].shown, answers[0].text, share.model or "base")
    right = num_right(share.examples, [_last_part(answer.text) for answer in answers])
    who = {answer.answerer.adapter for answer in answers if answer.answerer is not None}
    holds = who == {share.model} and 100 * right >= MIN_RIGHT_PERCENT * len(answers)
    report.claim(f"{name} answers right in the mixed batch", f"{right} of {len(answers)}", holds)


def _last_part(text: str) -> str:
    # Worked sums end in the answer: "7+5+0=12;1+3+1=5; 52".
    return text.rsplit(";", 1)[-1]


def _num_at_once(answers: list[TimedAnswer]) -> int:
    """How many requests were between their first and last token at the same time."""
    spans = [(answer.arrivals[0], answer.arrivals[-1]) for answer in answers if answer.arrivals]
    return max((sum(begin <= moment <= end for begin, end in spans) for moment, _ in spans), default=0)
