"""What a teacher wrote, as a page: what for, how much, what was left out, and how to learn from it."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from statistics import fmean, median

from graft.training.distill.sequences import Asking, Told, logprobs_of
from graft.training.job.lineage import code_version, data_digest
from graft.training.report.examples import Example, section
from graft.training.report.page import Section, definitions, page, tiles, verbatim
from graft.training.runtime.disk import put_text

_MAX_CHARACTERS = 2_000
"""Of a text that is shown."""


def page_of(output: Path) -> Path:
    """Where the page lies: beside the rows."""
    return output.with_suffix(".html")


def write(told: Told, asking: Asking, *, data: Path, output: Path) -> Path:
    """The page on rows that are written. Raises ``NotWritten``, ``OSError``."""
    path = page_of(output)
    put_text(path, _html(told, asking, data, output))
    return path


def _html(told: Told, asking: Asking, data: Path, output: Path) -> str:
    name = shlex.quote(output.stem)
    learn = f"graft finetune --data {shlex.quote(str(output))} --name {name}  # --base BASE, if not the shipped one"
    sections = [
        Section(title="In short", body=tiles(_figures(told))),
        Section(title="What to do with it", body=verbatim(learn)),
        section([_example(asked, said) for asked, said in told.first], remark="The first rows that were written."),
        Section(title="Where it comes from", body=definitions(_origin(told, asking, data, output))),
    ]
    return page(f"{output.name}: answers of {asking.name}", f"{told.num_rows:,} rows to learn from.", sections)


def _figures(told: Told) -> dict[str, str]:
    return {
        "rows": f"{told.num_rows:,}",
        "tokens of an answer": f"{median(told.lengths):.0f} (median; {fmean(told.lengths):.1f} on average)",
        "longest answer": f"{max(told.lengths):,} tokens",
        "refused": f"{told.num_refused:,} (prompts that the server did not take)",
        "cut": f"{told.num_cut:,} (answers that had not ended; left out)",
        "empty": f"{told.num_empty:,} (answers; left out)",
    }


def _example(asked: str | list[dict[str, str]], said: str) -> Example:
    prompt = asked if isinstance(asked, str) else "\n".join(f"{one['role']}: {one['content']}" for one in asked)
    return Example(prompt=_bounded(prompt), row_says={"answer": _bounded(said)})


def _bounded(text: str) -> str:
    return text if len(text) <= _MAX_CHARACTERS else f"{text[:_MAX_CHARACTERS]} …"


def _origin(told: Told, asking: Asking, data: Path, output: Path) -> Mapping[str, object]:
    num = asking.top_logprobs
    return {
        "who answered": "; ".join(told.answerers),
        "prompts": f"{data} ({data_digest(data)})",
        "digest of the rows": data_digest(output),
        "max tokens": asking.max_tokens,
        "temperature": asking.temperature,
        "answers to each": asking.num_answers,
        "seed": asking.seed,
        **({} if num is None else {"likeliest tokens": f"{num} of each, in {logprobs_of(output)}"}),
        "code version": code_version(),
    }
