"""A hot swap under load: version 2 is trained and takes over while 16 streams run, and nothing fails."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from graft.cli.demo.report import Report
from graft.cli.demo.rows import Example
from graft.cli.demo.variety import DATE_FORMATS, DATES_ISO, DATES_US, Trained, Variety, train
from graft.cli.load import TimedAnswer, ask, largest_gap, milliseconds
from graft.cli.terminal import short
from graft.client import AsyncClient, Push, SamplingOptions

NUM_STREAMS = 16
_STEADY_SECONDS, _AFTER_SECONDS = 5.0, 4.0
_OPTIONS: SamplingOptions = {"max_tokens": 24, "temperature": 0.0, "stop": "\n"}


@dataclass(frozen=True, kw_only=True)
class Swap:
    """The moments of the swap, in seconds of the monotonic clock, and what was pushed."""

    steady_begin: float
    begin: float
    end: float
    push: Push


async def show_swap(client: AsyncClient, trained: Mapping[Variety, Trained], work: Path, report: Report) -> Trained:
    """Run the load, train and swap in its middle, and judge every answer. Returns version 2."""
    before = (await client.get_adapter(DATES_ISO.name)).aliases
    old = next(alias for alias in before if alias.alias == "stable")
    answers: list[TimedAnswer] = []
    ended = asyncio.Event()
    questions = itertools.cycle(trained[DATES_ISO].examples)
    streams = [asyncio.create_task(_stream(client, questions, answers, ended)) for _ in range(NUM_STREAMS)]
    try:
        new = await asyncio.to_thread(train, DATES_US, work, report)
        swap = await _swap(client, new)
    finally:
        ended.set()
        await asyncio.gather(*streams)
    formats = {old.version_digest: DATES_ISO, swap.push.version.digest: DATES_US}
    _judge(answers, swap, formats, report)
    return new


async def _stream(
    client: AsyncClient, questions: Iterator[Example], answers: list[TimedAnswer], ended: asyncio.Event
) -> None:
    while not ended.is_set():
        answers.append(await ask(client, next(questions).request, DATES_ISO.name, _OPTIONS))


async def _swap(client: AsyncClient, new: Trained) -> Swap:
    await asyncio.sleep(1.0)
    steady_begin = time.monotonic()
    await asyncio.sleep(_STEADY_SECONDS)
    begin = time.monotonic()
    push = await client.push_adapter(new.folder, name=DATES_US.name, alias="stable")
    end = time.monotonic()
    await asyncio.sleep(_AFTER_SECONDS)
    return Swap(steady_begin=steady_begin, begin=begin, end=end, push=push)


def _judge(answers: list[TimedAnswer], swap: Swap, formats: Mapping[str, Variety], report: Report) -> None:
    failed = [answer for answer in answers if answer.error is not None]
    answered = [answer for answer in answers if answer.error is None]
    named = Counter(_version(answer) for answer in answered)
    for digest, variety in formats.items():
        sample = next((answer.text for answer in answered if _version(answer) == digest), "")
        report.show(f"{named[digest]} answers by {short(digest)}, e.g.", sample, variety.task)
    detail = f"{len(failed)} of {len(answers)} failed"
    if failed:
        detail += f" (first: {failed[0].error})"
    report.claim("no request fails while version 2 is trained and swapped in", detail, not failed)
    counts = ", ".join(f"v{number}: {named[digest]}" for number, digest in enumerate(formats, start=1))
    both = set(named) == set(formats)
    report.claim(f"both versions answered the {NUM_STREAMS} streams", counts, both)
    wrong = [answer for answer in answered if not _has_format_of(answer, formats)]
    detail = f"{len(answered) - len(wrong)} of {len(answered)}" + (f" (not: {wrong[0].text!r})" if wrong else "")
    report.claim("every answer has the format of the version that it names", detail, not wrong)
    late = [answer for answer in answered if answer.begin > swap.end]
    stale = [answer for answer in late if formats.get(_version(answer)) is not DATES_US]
    report.claim("every request after the swap is answered by version 2", f"{len(late) - len(stale)} of {len(late)}",
                 bool(late) and not stale)  # fmt: skip
    _report_gaps(answered, swap, report)


def _report_gaps(answers: list[TimedAnswer], swap: Swap, report: Report) -> None:
    during = largest_gap(answers, begin=swap.begin, end=swap.end)
    steady = largest_gap(answers, begin=swap.steady_begin, end=swap.begin)
    loading = milliseconds(swap.push.load_seconds)
    report.say(f"upload, checks and swap took {milliseconds(swap.end - swap.begin)}, loading in the engine {loading}")
    measured = f"{milliseconds(during)} during the swap, {milliseconds(steady)} in the {_STEADY_SECONDS:g} s before"
    report.claim("largest gap between two tokens of a stream", measured, during is not None)


def _version(answer: TimedAnswer) -> str:
    return answer.answerer.version_digest if answer.answerer is not None else ""


def _has_format_of(answer: TimedAnswer, formats: Mapping[str, Variety]) -> bool:
    variety = formats.get(_version(answer))
    return variety is not None and DATE_FORMATS[variety].fullmatch(answer.text.strip()) is not None
