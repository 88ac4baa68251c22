"""What a finished training on a task tells people: its page."""

from __future__ import annotations

from pathlib import Path

from graft.training.report.page import Section, definitions
from graft.training.report.report import Report
from graft.training.tasks.record import TaskRecord
from graft.training.tasks.settings import TaskSettings


def report(made: Path, record: TaskRecord, settings: TaskSettings) -> Report:
    """Of what lies in its folder."""
    task, method = record.settings["task"], record.settings["method"]
    measured = {name: f"{value:.4g}" for name, value in record.metrics.items()}
    base = f" --base {record.base}" if made.name == "adapter" else ""
    return Report(
        title=f"{made.parent.name}: {task} on {record.base}",
        lead=f"A training on a task, {method}; {made.name}/ holds what came out.",
        origin={
            "base": f"{record.base} ({record.base_digest})",
            "run": record.job,
            "digest of the data": record.data_digest,
            "code version": record.code_version,
            **({} if record.labels is None else {"labels": ", ".join(record.labels)}),
        },
        settings=settings,
        sections=[Section(title="On what is held out", body=definitions(measured))] if measured else [],
        learned="labels",
        commands=[f"graft evaluate heads --model {made}{base} --data FILE"],
    )
