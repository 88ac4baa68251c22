"""`python -m tests.server.api.scripted.process <base> <data> <ready file> <drain seconds> [<fault>]`: one to signal.

Beside the scripted engine runs a child process, which stands for the engine's and must never be left behind. Faults:
`never-back` starts no second engine while its child runs, in a thread, as vLLM does; `thread` waits in one for ever;
`no-close` has an engine that does not close; `loads-for-ever` has one into which no adapter comes.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from pathlib import Path

from prometheus_client import CollectorRegistry

from graft.adapters.base.base import Base
from graft.adapters.form import ServingForm
from graft.server.engine.engine import EngineInfo
from graft.server.main import serve
from graft.server.operations.metrics import Metrics
from graft.server.operations.shutdown import to_the_end
from graft.server.settings.settings import Settings
from tests.server.api.scripted.engine import Script, ScriptedEngine, ScriptedEngineFactory


class ChildEngine(ScriptedEngine):
    """Its process id is that of a real child."""

    def __init__(self, script: Script) -> None:
        super().__init__(script)
        self.child = subprocess.Popen(["sleep", "1000"])
        self.pid = self.child.pid

    async def close(self) -> None:
        await super().close()
        self.child.kill()
        self.child.wait()


class StubbornEngine(ChildEngine):
    """Does not close."""

    async def close(self) -> None:
        await asyncio.Event().wait()


class ChildEngineFactory(ScriptedEngineFactory):
    """Starts engines with a child."""

    def __init__(self, script: Script, fault: str) -> None:
        super().__init__(script)
        self._fault = fault
        self._num_started = 0

    async def start(self, settings: Settings, base: Base, form: ServingForm, like: EngineInfo | None) -> ScriptedEngine:
        self._num_started += 1
        if self._num_started > 1 and self._fault == "never-back":
            await asyncio.to_thread(subprocess.run, ["sleep", "1000"], check=True)
        if self._num_started > 1 and self._fault == "thread":
            await asyncio.to_thread(time.sleep, 1000)
        engine = (StubbornEngine if self._fault == "no-close" else ChildEngine)(self._script)
        if self._fault in ("never-back", "thread"):
            asyncio.get_running_loop().call_later(0.2, engine.die)
        return engine


def main(base: str, data: str, ready_file: str, drain_seconds: str, fault: str = "") -> int:
    settings = Settings(
        base=base,
        data_dir=Path(data),
        grpc_port=0,
        http_port=0,
        drain_seconds=float(drain_seconds),
        parity="recorded",  # there is no base here that peft could load
    )
    script = Script(token_seconds=0.02)
    script.start_allowed.set()
    if fault == "loads-for-ever":
        script.load_seconds = 1e6
    engines, metrics = ChildEngineFactory(script, fault), Metrics(CollectorRegistry())
    serving = serve(settings, ready_file=Path(ready_file), engines=engines, metrics=metrics)
    return asyncio.run(to_the_end(serving))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
