"""An evaluation as a Markdown page with pictures."""

from __future__ import annotations

from collections.abc import Sequence

from graft.training.evaluation.reports.asked import question_of
from graft.training.evaluation.reports.summary import figure, pairs
from graft.training.evaluation.running.outcome import Outcome
from graft.training.evaluation.statistics.intervals import CONFIDENCE, NUM_RESAMPLES
from graft.training.runtime.markdown import table

NUM_SHOWN = 5
"""Wrong answers that are shown of each outcome."""


def markdown(outcomes: Sequence[Outcome], pictures: Sequence[tuple[str, str]] = ()) -> str:
    """The page. ``pictures``: a title and the file's name beside the page, of each."""
    parts = ["# Evaluation", _how(outcomes), "## Scores", _scores(outcomes)]
    found = pairs(outcomes)
    if found:
        rows = [
            (
                _cell(pair.task),
                _cell(pair.candidate),
                _cell(pair.baseline),
                f"{100 * pair.comparison.difference:+.1f}",
                f"[{100 * pair.comparison.low:+.1f}, {100 * pair.comparison.high:+.1f}]",
                f"{pair.comparison.num_better} / {pair.comparison.num_worse}",
                f"{pair.comparison.p_value:.3g}",
                pair.comparison.test,
            )
            for pair in found
        ]
        head = "task | candidate | baseline | points | interval | better / worse | p | test"
        parts += ["## Differences on the same questions", table(head, rows)]
    if pictures:
        parts += ["## Pictures", *(f"![{title}]({name})" for title, name in pictures)]
    wrong = [_wrong(one) for one in outcomes]
    if any(wrong):
        parts += ["## Wrong answers, the first of each", *filter(None, wrong)]
    return "\n\n".join(parts) + "\n"


def _how(outcomes: Sequence[Outcome]) -> str:
    return (
        f"Brackets are {CONFIDENCE:.0%} intervals over the questions: Wilson's of shares of right answers, Newcombe's "
        f"of differences that are the same in every question, else a bootstrap's ({NUM_RESAMPLES:,} resamples, seed "
        f"{outcomes[0].seed}). A question that the server refused counts as wrong."
    )


def _scores(outcomes: Sequence[Outcome]) -> str:
    rows = [
        (
            _cell(one.task.name),
            _cell(one.model),
            str(one.setting),
            key.removesuffix(",none"),
            figure(one, key),
            len(one.records),
            one.num_refused or "",
        )
        for one in outcomes
        for key in one.keys
    ]
    return table("task | model | setting | metric | figure | questions | refused", rows)


def _wrong(one: Outcome) -> str:
    missed = [record for record in one.records if record.marks[one.main_key] < 1][:NUM_SHOWN]
    if not missed or one.main_key.startswith("perplexity"):
        return ""
    rows = [
        (
            record.index + 1,
            _cell(question_of(one, record)),
            _cell(record.problem or record.answer or ("" if record.said else record.reason)),
            _cell(" or ".join(record.right) or record.reason),
        )
        for record in missed
    ]
    head = f"**{_cell(one.task.name)}**, {_cell(one.model)}, {one.setting}"
    return f"{head}\n\n{table('question | asked | said | right', rows)}"


def _cell(text: str, limit: int = 120) -> str:
    """Text inside a table: what a model said must not become markup."""
    flat = " ".join(text.split())
    short = flat if len(flat) <= limit else flat[:limit] + "…"
    for mark in "\\`|<>*_[]":
        short = short.replace(mark, "\\" + mark)
    return short
