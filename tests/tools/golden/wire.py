"""All exchanges against one `graft serve` of the environment that this runs in."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from tests.running import start_server, stop_server
from tests.tools.golden import grpc_rows, http_rows, stories
from tests.tools.golden.recorder import Recorder

SHIPPED = Path(__file__).parents[3] / "adapters/graft/adapters/base/shipped/rootstock-5m"


def record() -> dict[str, Any]:
    """Every exchange by its id, in the order in which they were made."""
    with tempfile.TemporaryDirectory(prefix="golden-") as name:
        work = Path(name)
        server = start_server(work, *_flags(work))
        recorder = Recorder(grpc_target=server.grpc, http_url=server.http)
        try:
            http_rows.operations(recorder, "start")
            http_rows.answered(recorder)
            http_rows.refused(recorder)
            grpc_rows.calls(recorder)
            stories.adapters(recorder, work)
            stories.trained(recorder, work)
            http_rows.operations(recorder, "with adapters")
            stories.full(recorder)
            stories.ending(recorder, work)
            stories.bases(recorder, work, SHIPPED)
            stories.draining(recorder)
            recorder.exchanges["the server's end"] = {"code": server.process.wait(timeout=60)}
        finally:
            recorder.close()
            if server.process.poll() is None:
                stop_server(server)
        return recorder.exchanges


def _flags(work: Path) -> list[str]:
    flags = {
        "num-slots": stories.NUM_SLOTS,
        "max-rank": stories.MAX_RANK,
        "max-running": stories.MAX_RUNNING,
        "max-queued": stories.MAX_QUEUED,
        "max-body-mib": 1,
        "import-roots": work,
        "parity": "full",
        # Its checks of the engine would stand between the rows.
        "canary-interval-seconds": 3600,
    }
    return [part for name, value in flags.items() for part in (f"--{name}", str(value))]
