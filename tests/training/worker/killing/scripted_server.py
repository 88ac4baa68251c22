"""`python -m tests.training.worker.killing.scripted_server SETTINGS READY`: a whole server without an engine's half
minute, to be killed and started again on the same data.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

from prometheus_client import CollectorRegistry

from graft.server.jobs.catalog import JobCatalog
from graft.server.main import serve
from graft.server.operations.metrics import Metrics
from graft.server.operations.shutdown import to_the_end
from graft.server.settings.settings import Settings
from graft.training.runtime.parent import end_with
from tests.server.api.scripted.engine import Script, ScriptedEngineFactory


def main(given: str, ready_file: str) -> int:
    values = json.loads(given)
    moves_clock = values.pop("moves_clock", True)
    paths = {name: Path(values[name]) for name in ("data_dir", "tenants_file") if name in values}
    # There is nothing here that could compare what is served with what was trained.
    settings = Settings(**values | paths, parity="off", canary_interval_seconds=3600.0)
    if moves_clock:
        # Nothing is decided by a wall clock: this one is an hour ahead at one look and behind at the next (F16).
        signs = itertools.cycle((1, -1))
        defaults = JobCatalog.__init__.__kwdefaults__
        defaults["now"] = lambda: datetime.now(UTC) + next(signs) * timedelta(hours=1)
    script = Script()
    script.start_allowed.set()
    serving = serve(
        settings,
        ready_file=Path(ready_file),
        engines=ScriptedEngineFactory(script),
        metrics=Metrics(CollectorRegistry()),
    )
    return asyncio.run(to_the_end(serving))


if __name__ == "__main__":
    end_with(os.getppid())  # the tests: a fork for it there would be one beside gRPC's threads
    sys.exit(main(*sys.argv[1:]))
