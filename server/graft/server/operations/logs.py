"""What a request is called, and the log lines on standard error that say it: text, or one JSON object per line."""

from __future__ import annotations

import json
import logging
import re
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from graft.server.settings.settings import LogFormat

HEADER = "x-request-id"
"""Carries the name in a request, and back in its reply."""
_USABLE = re.compile(r"[\w.:/+=-]{1,128}\Z", re.ASCII)
_current: ContextVar[str] = ContextVar("request_id", default="")


@contextmanager
def named(given: str | None) -> Iterator[str]:
    """Within, the request is called what its caller calls it, where that can be a name, else by a new one."""
    name = given if given and _USABLE.match(given) else f"req-{uuid.uuid4().hex}"
    token = _current.set(name)
    try:
        yield name
    finally:
        _current.reset(token)


def current_request_id() -> str:
    """The name of the request that this is done for; empty where it is done for none."""
    return _current.get()


class JsonFormatter(logging.Formatter):
    """One object per record."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as a line of JSON."""
        line: dict[str, Any] = {
            "time": self.formatTime(record, "%Y-%m-%dT%H:%M:%S%z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if request_id := current_request_id():
            line["request_id"] = request_id
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


class TextFormatter(logging.Formatter):
    """One line per record, which ends in the request's id where it belongs to one."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:
        """The line without what an error adds to it."""
        request_id = current_request_id()
        return super().formatMessage(record) + (f" [{request_id}]" if request_id else "")


def configure_logs(log_format: LogFormat) -> None:
    """Our own loggers only: vLLM configures its own."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if log_format == "json" else TextFormatter())
    logger = logging.getLogger("graft")
    logger.handlers = [handler]
    logger.setLevel(logging.INFO)
    logger.propagate = False
