"""What a finished training on preferences tells people: its page."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from transformers import PreTrainedTokenizerBase

from graft.training.adapt.made.answers import MAX_TOKENS, Asked
from graft.training.adapt.made.told import HELD_OUT, LEARNED, Made
from graft.training.adapt.method import Route
from graft.training.batch.answers import Answer
from graft.training.model.loading import load_tokenizer
from graft.training.objective.preference.reward import rewards
from graft.training.preference.batches import Pairs
from graft.training.preference.learning import Preferences, Rows
from graft.training.preference.reading import EncodedJudged, EncodedPair
from graft.training.preference.ready import Ready
from graft.training.preference.settings import REWARD, AlignSettings
from graft.training.report.examples import Example, section
from graft.training.report.masks import MAX_SHOWN, MarkedRow, bounded, marked, pieces_of
from graft.training.report.page import Section, definitions, folded, paragraph, table
from graft.training.report.report import Report
from graft.training.runtime.compiling import uncompiled

_READING = "# numbers come out of it, no text: peft reads it on AutoModelForSequenceClassification"
_ASKING = '# numbers come out of it, no text: a grader asks it, {{"type": "reward_model", "name": "r", "model": "{}"}}'
MAX_LISTED = 20
"""Rows that were left out, of those that the page names."""


def report(made: Made, ready: Ready, settings: AlignSettings) -> Report:
    """Of what lies in its folder."""
    base, form, is_reward = made.record.base.name, made.record.form, settings.loss_type == REWARD
    tokenizer = load_tokenizer(ready.base.path)
    what = "A reward model" if is_reward else f"Preferences, learned by {settings.loss_type},"
    rows = "pairs" if isinstance(ready.learned.rows, Pairs) else "answers with labels"
    is_served = made.method.way(made.base).route is Route.AS_IS
    return Report(
        title=made.title,
        lead=f"{what} on {base} as {form}, of {len(ready.learned.rows.rows):,} {rows}.",
        origin={**made.origin, **({} if not is_reward or is_served else {"serving": "not by a server"})},
        settings=settings,
        sections=[
            _judged(made, ready, settings, tokenizer) if is_reward else _answered(made, ready, settings, tokenizer),
            _learned(ready.learned, tokenizer),
            *([] if is_reward else [made.receipt()]),
        ],
        learned="pairs" if isinstance(ready.learned.rows, Pairs) else "answers",
        commands=_rewarding(made, is_served) if is_reward else made.commands(),
    )


def _rewarding(made: Made, is_served: bool) -> list[str]:
    """In the place of a chat."""
    return [*made.commands()[:-1], _ASKING.format(made.work.name)] if is_served else [_READING]


def _answered(made: Made, ready: Ready, settings: AlignSettings, tokenizer: PreTrainedTokenizerBase) -> Section:
    """What base and adapter say where the rows know a better and a worse answer."""
    rows, remark = _shown(ready)
    asked = [_asked(row) for row in _first(rows, settings.report_examples)]
    return made.examples(asked, tokenizer, remark=remark)


def _shown(ready: Ready) -> tuple[Rows, str]:
    """What was not learned, where there is such."""
    return (ready.learned.rows, LEARNED) if ready.held_out is None else (ready.held_out.rows, HELD_OUT)


def _first(rows: Rows, num: int) -> Sequence[EncodedPair | EncodedJudged]:
    return rows.rows[:num]


def _asked(row: EncodedPair | EncodedJudged) -> Asked:
    said = dict(_named(row))
    answer = next(iter(said.values()))
    return Asked(
        prompt=answer.input_ids[: answer.num_prompt],
        row_says={name: one.input_ids[one.num_prompt :] for name, one in said.items()},
    )


def _named(row: EncodedPair | EncodedJudged) -> Iterator[tuple[str, Answer]]:
    if isinstance(row, EncodedPair):
        yield "chosen", row.chosen
        yield "rejected", row.rejected
    else:
        yield "good" if row.is_desirable else "bad", row.answer


def _judged(made: Made, ready: Ready, settings: AlignSettings, tokenizer: PreTrainedTokenizerBase) -> Section:
    """What a reward model finds of answers."""
    rows, _ = _shown(ready)
    assert isinstance(rows, Pairs)
    pairs, found = rows.rows[: settings.report_examples], []
    made.model.eval()
    for number, pair in enumerate(pairs):
        with uncompiled(), torch.no_grad():
            batch = rows.batch([number]).to(str(next(made.model.parameters()).device))
            values = rewards(made.model, batch.answers).tolist()
        prompt = pair.chosen.input_ids[: pair.chosen.num_prompt]
        said = {
            f"{name}: reward {value:.3f}": tokenizer.decode(one.input_ids[one.num_prompt :][:MAX_TOKENS])
            for (name, one), value in zip(_named(pair), values, strict=True)
        }
        found.append(Example(prompt=tokenizer.decode(prompt[-MAX_TOKENS:]), row_says=said))
    return section(found, remark="Rewards of the first pairs." if found else "none were asked for (report_examples 0)")


def _learned(learned: Preferences, tokenizer: PreTrainedTokenizerBase) -> Section:
    """In figures, and the first rows with what is compared in them."""
    parts = [definitions(_in_figures(learned))]
    if learned.dropped:
        num = len(learned.dropped)
        rest = paragraph(f"… and {num - MAX_LISTED:,} more", kind="quiet") if num > MAX_LISTED else ""
        listed = table(("line", "reason"), learned.dropped[:MAX_LISTED])
        parts.append(folded(f"{num:,} rows are dropped", listed + rest))
    rows = [
        MarkedRow(title=f"row {row.number}: {name}", pieces=bounded(pieces_of(answer, tokenizer)))
        for row in _first(learned.rows, MAX_SHOWN // 2)
        for name, answer in _named(row)
    ]
    parts.append(folded("Which tokens are compared, in the first rows", marked(rows), is_open=True))
    return Section(title="What it learned from", body="".join(parts))


def _in_figures(learned: Preferences) -> dict[str, str]:
    if isinstance(learned.rows, Pairs):
        told = {"pairs": f"{len(learned.rows.rows):,}"}
        sides = {
            "chosen answers": [row.chosen for row in learned.rows.rows],
            "rejected answers": [row.rejected for row in learned.rows.rows],
        }
    else:
        told = {"answers": f"{len(learned.rows.rows):,}"}
        sides = {
            f"{name} answers": [row.answer for row in learned.rows.rows if row.is_desirable == is_good]
            for name, is_good in (("good", True), ("bad", False))
        }
    return told | {name: _lengths([one.num_answer for one in answers]) for name, answers in sides.items()}


def _lengths(lengths: Sequence[int]) -> str:
    """An answer that is longer than another by its side alone is learned easily: people should see it."""
    ordered = sorted(lengths)
    half = f"half of them {ordered[len(ordered) // 2]} or fewer"
    mean = sum(ordered) / len(ordered)
    return f"{len(ordered):,} of {ordered[0]} to {ordered[-1]} tokens, {half}, {mean:.1f} on average"
