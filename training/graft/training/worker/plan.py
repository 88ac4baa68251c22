"""What a dry run leaves in the attempt's folder. It needs no torch: the worker reads it."""

from __future__ import annotations

from pathlib import Path

from google.protobuf.json_format import MessageToJson, Parse

from graft.training.runtime.disk import replace_text
from graft.v1 import job_pb2 as pb

FILE = "plan.json"


def write_plan(plan: pb.JobPlan, attempt: Path) -> None:
    """Raises OSError."""
    replace_text(attempt / FILE, MessageToJson(plan))


def read_plan(attempt: Path) -> pb.JobPlan | None:
    """None where none was written."""
    path = attempt / FILE
    return Parse(path.read_text(encoding="utf-8"), pb.JobPlan()) if path.exists() else None
