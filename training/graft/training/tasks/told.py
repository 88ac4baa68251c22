"""What a finished training on a task tells people: its page."""

from __future__ import annotations

import shlex
from pathlib import Path

from graft.adapters.base.base import Base
from graft.training.job.called import called
from graft.training.report.page import Section, definitions
from graft.training.report.report import Report
from graft.training.tasks.record import TaskRecord
from graft.training.tasks.settings import LORA, TaskSettings


def report(made: Path, record: TaskRecord, settings: TaskSettings, base: Base, *, is_served: bool) -> Report:
    """Of what lies in its folder, and whether a server takes it."""
    task, method = record.settings["task"], record.settings["method"]
    measured = {name: f"{value:.4g}" for name, value in record.metrics.items()}
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
        commands=_commands(made, called(base.path) if method == LORA else None, is_served=is_served),
    )


def _commands(made: Path, base: str | None, *, is_served: bool) -> list[str]:
    """``base`` is that of an adapter."""
    folder, name = shlex.quote(str(made)), made.parent.name
    measure = f"graft evaluate heads --model {folder}{f' --base {base}' if base else ''} --data FILE"
    if not is_served:
        return [measure]
    push = f"graft adapters push {folder} --name {name} --alias stable"
    return [measure, f"graft serve --base {base}", push, f"graft classify --model {name} TEXT"]
