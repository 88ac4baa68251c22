"""`python -m tests.server.api.scripted_process <base> <data> <ready file> <drain seconds>`: a server to signal.

Beside the scripted engine runs a child process, which stands for the engine's and must never be left behind.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

from prometheus_client import CollectorRegistry

from graft.adapters.base import Base
from graft.server.main import serve
from graft.server.metrics import Metrics
from graft.server.settings import Settings
from tests.server.api.scripted import Script, ScriptedEngine, ScriptedMachinery


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


class ChildMachinery(ScriptedMachinery):
    """Starts engines with a child."""

    async def start_engine(self, settings: Settings, base: Base) -> ScriptedEngine:
        return ChildEngine(self._script)


def main(base: str, data: str, ready_file: str, drain_seconds: str) -> int:
    settings = Settings(base=base, data_dir=Path(data), grpc_port=0, http_port=0, drain_seconds=float(drain_seconds))
    script = Script(token_seconds=0.02)
    machinery, metrics = ChildMachinery(script), Metrics(CollectorRegistry())
    return asyncio.run(serve(settings, ready_file=Path(ready_file), machinery=machinery, metrics=metrics))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
