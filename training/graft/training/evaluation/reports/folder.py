"""A folder with everything that an evaluation found."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from graft.training.evaluation.reports.harness_results import results
from graft.training.evaluation.reports.junit import junit
from graft.training.evaluation.reports.markdown import markdown
from graft.training.evaluation.reports.pictures import draw
from graft.training.evaluation.reports.summary import summary
from graft.training.evaluation.running.outcome import Outcome


def write(outcomes: Sequence[Outcome], folder: Path, *, server: str, seconds_since_epoch: float) -> None:
    """``report.md`` with its pictures, ``summary.json``, ``junit.xml``, ``samples.jsonl``, and of each model
    ``<model>/results.json`` as lm-evaluation-harness writes it. Raises OSError.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "report.md").write_text(markdown(outcomes, draw(outcomes, folder)), encoding="utf-8")
    (folder / "summary.json").write_text(_json(summary(outcomes)), encoding="utf-8")
    (folder / "junit.xml").write_text(junit(outcomes), encoding="utf-8", errors="replace")
    with (folder / "samples.jsonl").open("w", encoding="utf-8", errors="replace") as file:
        for one in outcomes:
            for record in one.records:
                row = {"model": one.model, "task": one.task.name, "setting": asdict(one.setting), **asdict(record)}
                file.write(json.dumps(row, ensure_ascii=False) + "\n")
    for model in dict.fromkeys(one.model for one in outcomes):
        own = folder / "".join(letter if letter.isalnum() or letter in "-_.@" else "-" for letter in model)
        own.mkdir(exist_ok=True)
        found = results(outcomes, model=model, server=server, seconds_since_epoch=seconds_since_epoch)
        (own / "results.json").write_text(_json(found), encoding="utf-8")


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, indent=2) + "\n"
