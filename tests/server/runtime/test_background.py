"""No background task of the server ends unseen (reading 3)."""

from __future__ import annotations

import ast
import asyncio
from pathlib import Path

import pytest

from graft.server.runtime.background import log_unseen, watched


async def fail() -> None:
    raise ValueError("the gauge is gone")


async def test_a_task_that_fails_is_logged_and_told(caplog: pytest.LogCaptureFixture) -> None:
    told: list[str] = []
    await asyncio.gather(watched(fail(), "the watch", ended=told.append), return_exceptions=True)
    await watched(asyncio.sleep(0), "a nap", ended=told.append)
    cancelled = watched(asyncio.sleep(100), "a sleep", ended=told.append)
    cancelled.cancel()
    await asyncio.gather(cancelled, return_exceptions=True)
    await asyncio.sleep(0)
    assert told == ["the watch failed: the gauge is gone", "a nap ended"]
    assert [record.message for record in caplog.records] == ["the watch failed: the gauge is gone"]


async def test_an_error_that_nobody_awaits_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    loop = asyncio.get_running_loop()
    before = loop.get_exception_handler()
    loop.set_exception_handler(log_unseen)
    try:
        loop.call_soon(lambda: 1 / 0)
        await asyncio.sleep(0.01)
    finally:
        loop.set_exception_handler(before)
    assert "division by zero" in caplog.text


def test_tasks_are_started_by_whoever_awaits_them_or_watched(repository: Path) -> None:
    """`create_task` is what a forgotten task begins with; what is awaited where it is made is an `ensure_future`, or
    one of a group's, which awaits its own.
    """
    found = []
    server = repository / "server" / "graft" / "server"
    for file in server.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute) and node.attr == "create_task" and ast.unparse(node.value) != "group":
                found.append(f"{file}:{node.lineno}")
    assert not found, "use graft.server.runtime.background.watched"
