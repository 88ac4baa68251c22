"""The process behind references: started late, kept while it is used, never left behind; and peft's own numbers."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from graft.adapters.base.base import Base, shipped_bases
from graft.adapters.folder.reference import Reference
from graft.adapters.form import ServingForm
from graft.server.errors import ParityFailed, ParityUnavailable
from graft.server.parity.effort import Effort
from graft.server.parity.oracle_process import PeftProcess, Unmeasurable
from tests.server.engine.making import write_adapter


@asynccontextmanager
async def process(mode: str, *, timeout_seconds: float = 30, idle_seconds: float = 30) -> AsyncIterator[PeftProcess]:
    started = PeftProcess(
        Path(mode),
        ServingForm.NF4,
        timeout_seconds=timeout_seconds,
        idle_seconds=idle_seconds,
        effort=Effort(in_layers=mode in ("scores", "unmeasurable"), seconds=1000.0),
        module="tests.server.engine.answering",
    )
    try:
        yield started
    finally:
        await started.close()


async def ask(peft: PeftProcess) -> Reference:
    return await peft.reference(Path("folder"), num_rows=2, num_tokens=7)


def pid_of(reference: Reference) -> int:
    return reference.rows[0].token_ids[0]


async def until_gone(pid: int) -> None:
    end = time.monotonic() + 10
    while Path(f"/proc/{pid}").exists():
        assert time.monotonic() < end, f"{pid} was left running"
        await asyncio.sleep(0.02)


async def test_it_is_started_ahead_of_the_first_question_and_leaves_where_none_comes() -> None:
    async with process("echo", idle_seconds=60) as peft:
        peft.warm()
        peft.warm()
        while peft._process is None:
            await asyncio.sleep(0.01)
        assert pid_of(await ask(peft)) == peft._process.pid
    async with process("echo", idle_seconds=0.01) as idle:
        idle.warm()
        while idle._process is None:
            await asyncio.sleep(0.01)
        await until_gone(idle._process.pid)


async def test_one_process_answers_all_and_ends_when_it_is_closed() -> None:
    async with process("echo") as peft:
        references = await asyncio.gather(*(ask(peft) for _ in range(3)))
        pids = {pid_of(reference) for reference in references}
        assert len(pids) == 1
        assert references[0].form is ServingForm.NF4 and len(references[0].rows) == 2
        assert references[0].rows[0].num_prompt_tokens == 1
    await until_gone(pids.pop())


async def test_an_idle_process_ends_and_another_takes_its_place() -> None:
    async with process("echo", idle_seconds=0.05) as peft:
        first = pid_of(await ask(peft))
        await until_gone(first)
        assert pid_of(await ask(peft)) != first


async def test_a_slow_reference_is_given_up_with_advice() -> None:
    async with process("hang", timeout_seconds=0.5) as peft:
        with pytest.raises(ParityUnavailable, match=r"for 0\.5 s.*--parity recorded"):
            await ask(peft)


async def test_what_one_reference_took_is_expected_of_the_next() -> None:
    async with process("scores") as peft:
        assert peft.expected_seconds == 1000.0
        assert (await peft.scored(Path("folder"), [[3, 4]])).rows[0].token_ids == (3, 4)
        assert peft.expected_seconds < 1000.0


async def test_silence_counts_and_not_the_whole_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten signs of life, three seconds apart on the loop's clock, where four of silence are the limit."""
    loop, passed = asyncio.get_running_loop(), 0.0
    clock = loop.time
    monkeypatch.setattr(loop, "time", lambda: clock() + passed)
    stream = asyncio.StreamReader()
    async with process("scores", timeout_seconds=4.0) as peft:
        heard = asyncio.ensure_future(peft._heard(stream))
        for step in range(10):
            await _turns()
            passed += 3.0
            stream.feed_data(b'{"progress": %d}\n' % step)
        await _turns()
        stream.feed_data(b'{"rows": []}\n')
        assert await heard == {"rows": []}
        silent = asyncio.ensure_future(peft._heard(stream))
        await _turns()
        passed += 5.0
        with pytest.raises(TimeoutError):
            await silent


async def _turns() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_a_base_that_cannot_be_read_in_layers_is_told_apart() -> None:
    async with process("unmeasurable") as peft:
        with pytest.raises(Unmeasurable, match=r"fused experts.*--parity auto"):
            await peft.scored(Path("folder"), [[3, 4]])


@pytest.mark.parametrize(("mode", "how"), [("crash", "ended with code 1"), ("killed", "was ended by SIGKILL")])
async def test_a_process_that_dies_is_told_in_one_line_and_its_last_words_are_logged(
    mode: str, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with process(mode) as peft:
        with pytest.raises(ParityUnavailable) as error:
            await ask(peft)
    assert f"{how}: try again" in str(error.value)
    assert "out of memory" not in str(error.value) and "\n" not in str(error.value)
    assert f"{how}; it last said: out of memory" in caplog.text


async def test_what_peft_refuses_is_said() -> None:
    async with process("error") as peft:
        with pytest.raises(ParityFailed, match="no nf4"):
            await ask(peft)


async def test_a_caller_who_leaves_leaves_no_process_behind() -> None:
    async with process("hang") as peft:
        waiting = asyncio.create_task(ask(peft))
        while peft._process is None:
            await asyncio.sleep(0.01)
        pid = peft._process.pid
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await until_gone(pid)


async def test_closing_does_not_wait_for_a_reference_that_hangs() -> None:
    async with process("hang") as peft:
        waiting = asyncio.gather(ask(peft), ask(peft), return_exceptions=True)
        while peft._process is None:
            await asyncio.sleep(0.01)
        await asyncio.wait_for(peft.close(), 5)
        assert [type(error) for error in await waiting] == [ParityUnavailable] * 2


async def test_it_ends_with_a_parent_that_is_killed() -> None:
    code = (
        "import asyncio\n"
        "from tests.server.parity.test_oracle_process import process, ask, pid_of\n"
        "async def main():\n"
        "    async with process('echo') as peft:\n"
        "        print(pid_of(await ask(peft)), flush=True); await asyncio.sleep(1000)\n"
        "asyncio.run(main())"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    await until_gone(child)


async def test_peft_says_the_same_of_an_adapter_whatever_was_asked_before(tmp_path: Path) -> None:
    """NF4 on the shipped base: another adapter, forgotten again, must leave no trace in the base."""
    base = Base.from_folder(shipped_bases()["rootstock-5m"])
    layers = {name: shape for name, shape in base.modules.items() if ".layers." in name}
    one, two = (write_adapter(tmp_path / str(seed), layers, rank=8, seed=seed) for seed in (1, 2))
    said = []
    for folders in ((one, two), (two,)):
        peft = PeftProcess(base.path, ServingForm.NF4, timeout_seconds=600)
        try:
            said.append([await peft.reference(folder, num_rows=2, num_tokens=16) for folder in folders])
        finally:
            await peft.close()
    assert said[0][0] != said[0][1] == said[1][0]
    assert all(len(row.token_ids) == 16 and max(row.logprobs) <= 0 for row in said[1][0].rows)
