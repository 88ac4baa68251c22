"""What a finished training on a task tells people: its page."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

from graft.training.errors import NotWritten, first_line
from graft.training.report.page import Section, definitions
from graft.training.report.report import FILE, Report
from graft.training.tasks.record import TaskRecord

_log = logging.getLogger(__name__)


def write_report(work: Path, made: Path, record: TaskRecord, settings: Mapping[str, object]) -> None:
    """``report.html`` in ``work``: a page is no reason to lose a training."""
    try:
        _report(made, record, settings).write(work)
    except (NotWritten, OSError, ImportError) as error:
        _log.warning("%s is left out: %s", work / FILE, first_line(error))


def _report(made: Path, record: TaskRecord, settings: Mapping[str, object]) -> Report:
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
        commands=[f"graft evaluate heads --model {made}{base} --data FILE"],
    )
