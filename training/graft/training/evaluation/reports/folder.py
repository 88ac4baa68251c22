"""A folder with everything that an evaluation found."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from graft.training.evaluation.reports.asked import asked
from graft.training.evaluation.reports.harness_results import results
from graft.training.evaluation.reports.junit import junit
from graft.training.evaluation.reports.markdown import markdown
from graft.training.evaluation.reports.pictures import draw
from graft.training.evaluation.reports.summary import summary
from graft.training.evaluation.running.outcome import Outcome, Record
from graft.training.runtime.disk import put_text


def write(outcomes: Sequence[Outcome], folder: Path, *, server: str, seconds_since_epoch: float) -> None:
    """``report.md`` with its pictures, ``summary.json``, ``junit.xml``, ``samples.jsonl``, and of each model
    ``<model>/results.json`` as lm-evaluation-harness writes it. Raises ``NotWritten``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    put_text(folder / "summary.json", _json(summary(outcomes)))
    put_text(folder / "samples.jsonl", "".join(_sample(one, record) for one in outcomes for record in one.records))
    put_text(folder / "junit.xml", junit(outcomes))
    put_text(folder / "report.md", markdown(outcomes, draw(outcomes, folder)))
    for model in dict.fromkeys(one.model for one in outcomes):
        own = folder / "".join(letter if letter.isalnum() or letter in "-_.@" else "-" for letter in model)
        own.mkdir(exist_ok=True)
        found = results(outcomes, model=model, server=server, seconds_since_epoch=seconds_since_epoch)
        put_text(own / "results.json", _json(found))


def _sample(one: Outcome, record: Record) -> str:
    row = {"model": one.model, "task": one.task.name, "setting": asdict(one.setting)}
    return json.dumps({**row, **asked(one, record), **asdict(record)}, ensure_ascii=False, default=str) + "\n"


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, indent=2) + "\n"
