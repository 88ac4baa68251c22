"""Reports on their way to the server: in order on disk, until each is answered.

A report's number is its place. The server does a number only once, so that repeating loses nothing and doubles nothing,
also where the worker or the server was killed between.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from google.protobuf.json_format import MessageToDict, ParseDict

from graft.training.runtime.disk import replace_text
from graft.v1 import job_pb2 as pb

FILE, ANSWERED = "outbox.jsonl", "answered"


class Outbox:
    """Of one claim. Raises OSError where the disk refuses."""

    def __init__(self, folder: Path, *, job: str, fence: int) -> None:
        self._path, self._mark, self._job, self._fence = folder / FILE, folder / ANSWERED, job, fence
        self._waiting: list[tuple[int, Mapping[str, Any]]] = []
        self.number = self.told_end = self.step = self.checkpoint_step = 0
        answered = int(self._mark.read_text(encoding="utf-8")) if self._mark.exists() else 0
        for line in self._read():
            self._count(line)
            if line["number"] > answered:
                self._waiting.append((line["number"], line["report"]))

    @property
    def is_empty(self) -> bool:
        return not self._waiting

    def put(self, report: pb.ReportJobRequest, *, told_end: int, step: int, checkpoint_step: int) -> None:
        """The next report. ``told_end`` says up to where what was told stands in reports, ``step`` and
        ``checkpoint_step`` of which step metrics and a checkpoint were told last.
        """
        found = MessageToDict(report, preserving_proto_field_name=True)
        line = {
            "number": self.number + 1,
            "told_end": told_end,
            "step": step,
            "checkpoint_step": checkpoint_step,
            "report": found,
        }
        with self._path.open("ab") as file:
            file.write((json.dumps(line) + "\n").encode())
        self._count(line)
        self._waiting.append((self.number, found))

    def first(self) -> pb.ReportJobRequest | None:
        """What is to be sent now; None where all is answered."""
        if not self._waiting:
            return None
        number, report = self._waiting[0]
        message = ParseDict(dict(report), pb.ReportJobRequest())
        message.job, message.fence, message.number = self._job, self._fence, number
        return message

    def answered(self, number: int) -> None:
        """That report has arrived."""
        replace_text(self._mark, str(number))
        self._waiting = [one for one in self._waiting if one[0] > number]

    def _count(self, line: Mapping[str, Any]) -> None:
        self.number, self.told_end = line["number"], line["told_end"]
        self.step, self.checkpoint_step = line["step"], line["checkpoint_step"]

    def _read(self) -> list[Mapping[str, Any]]:
        """What stands there whole; a line that was cut off was sent to nobody, and goes."""
        if not self._path.exists():
            return []
        content = self._path.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        if len(whole) < len(content):
            with self._path.open("r+b") as file:
                file.truncate(len(whole))
        return [json.loads(line) for line in whole.splitlines()]
