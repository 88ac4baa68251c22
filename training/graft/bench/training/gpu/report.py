"""The parts of a report, one after the other: each survives the failure of another, and all fit a number of minutes."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

PARTS: Mapping[str, float] = {
    "machine": 40,
    "finetune": 90,
    "head": 60,
    "attention": 60,
    "pretrain": 170,
    "tests": 120,
}
"""In this order, with the most seconds that each may take."""
_LAST_CHARACTERS = 2000


@dataclass(kw_only=True)
class Outcome:
    """What became of a part."""

    status: str
    """``ok``, ``failed``, ``out of time``, ``left out``."""
    seconds: float = 0.0
    figures: list[dict[str, Any]] = field(default_factory=list)
    """``name``, ``value``, ``unit``."""
    lacks: list[str] = field(default_factory=list)
    """What is not installed here, or too old, and what could not be measured therefore."""
    texts: dict[str, str] = field(default_factory=dict)
    error: str = ""


class Report:
    """Prints each part when it ends, and writes all so far: what is cut off leaves what there was."""

    def __init__(self, names: Sequence[str], *, seconds: float, rehearse: bool, path: Path | None) -> None:
        self._names, self._rehearse, self._path = names, rehearse, path
        self._patience = 5 if rehearse else 1
        self._end = time.monotonic() + seconds * self._patience
        self.outcomes: dict[str, Outcome] = {}

    @property
    def is_whole(self) -> bool:
        return all(one.status == "ok" for one in self.outcomes.values())

    def execute(self) -> None:
        for name in self._names:
            limit = min(PARTS[name] * self._patience, self._end - time.monotonic())
            self.outcomes[name] = Outcome(status="left out") if limit < 1 else self._measured(name, limit)
            print(told(name, self.outcomes[name]), flush=True)
            if self._path is not None:
                parts = {name: asdict(one) for name, one in self.outcomes.items()}
                self._path.write_text(json.dumps({"rehearsal": self._rehearse, "parts": parts}, indent=1) + "\n")

    def _measured(self, name: str, limit: float) -> Outcome:
        begin = time.monotonic()
        command = [sys.executable, "-m", "graft.bench.training.gpu.part", name]
        if self._rehearse:
            command.append("--rehearse")
        with tempfile.TemporaryFile() as said, tempfile.TemporaryFile() as errors:
            process = subprocess.Popen(command, stdout=said, stderr=errors, start_new_session=True)
            try:
                code: int | None = process.wait(limit)
            except subprocess.TimeoutExpired:
                code = None
            finally:
                _end(process)
            said.seek(0)
            errors.seek(0)
            outcome = read(said.read().decode(errors="replace").splitlines())
            last = errors.read().decode(errors="replace")[-_LAST_CHARACTERS:]
        outcome.seconds = round(time.monotonic() - begin, 1)
        outcome.status = "ok" if code == 0 else "out of time" if code is None else "failed"
        outcome.error = "" if code == 0 else last.strip()
        return outcome


def _end(process: subprocess.Popen[bytes]) -> None:
    """The part with all that it has started, which has a session of its own."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def read(lines: Sequence[str]) -> Outcome:
    """What a part has said, as far as it came. Lines that are no JSON are another's."""
    outcome = Outcome(status="failed")
    for line in lines:
        try:
            value = json.loads(line)
        except ValueError:
            continue
        if not isinstance(value, dict):
            continue
        if "lacks" in value:
            outcome.lacks.append(value["lacks"])
        elif "text" in value:
            outcome.texts[value["name"]] = value["text"]
        elif "name" in value:
            outcome.figures.append(value)
    return outcome


def told(name: str, outcome: Outcome) -> str:
    """A part in Markdown."""
    lines = [f"\n## {name}: {outcome.status}, {outcome.seconds:.0f} s", ""]
    if outcome.figures:
        lines += ["| figure | value | |", "| --- | --- | --- |"]
        lines += [f"| {one['name']} | {_shown(one['value'])} | {one['unit']} |" for one in outcome.figures]
    lines += [f"- not here: {one}" for one in outcome.lacks]
    lines += [f"\n{title}:\n```\n{text}\n```" for title, text in outcome.texts.items()]
    if outcome.error:
        lines.append(f"\n```\n{outcome.error}\n```")
    return "\n".join(lines)


def _shown(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
