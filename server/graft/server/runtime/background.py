"""Tasks that run beside requests: none of them ends unseen."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

_log = logging.getLogger(__name__)


def watched(
    work: Coroutine[Any, Any, Any], what: str, *, ended: Callable[[str], None] | None = None
) -> asyncio.Task[Any]:
    """Run `work` as a task. Its error is logged, as `what` failed; `ended` hears of every end but a cancellation."""
    task = asyncio.ensure_future(work)

    def look(task: asyncio.Task[Any]) -> None:
        if task.cancelled():
            return
        error = task.exception()
        if error is not None:
            _log.error("%s failed: %s", what, error or type(error).__name__, exc_info=error)
        if ended is not None:
            ended(f"{what} ended" if error is None else f"{what} failed: {error or type(error).__name__}")

    task.add_done_callback(look)
    return task


def log_unseen(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """The event loop's handler of errors that nobody awaits."""
    error = context.get("exception")
    _log.error("%s: %s", context.get("message", "unhandled error"), error, exc_info=error)
