"""Other people's clients, unmodified: each in a process and an environment of its own, which `make clients` makes."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.running import Server

ENVIRONMENTS = Path(__file__).parents[2] / ".venv-clients"
PROGRAMS = Path(__file__).parent / "programs"
# No client may look elsewhere, nor report home.
_ENVIRONMENT = {
    "OPENAI_API_KEY": "unused",
    "HF_HUB_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "LANGSMITH_TRACING": "false",
    "LANGFUSE_TRACING_ENABLED": "false",
}
_SECONDS = 600

Ask = Callable[..., Any]


@pytest.fixture
def ask(server: Server, tmp_path: Path) -> Ask:
    """`ask("litellm", model="base")`: what the client's program printed as its last line, as JSON."""

    def run(client: str, **values: Any) -> Any:
        python = ENVIRONMENTS / client / "bin" / "python"
        if not (ENVIRONMENTS / client / ".installed").exists():
            pytest.skip(f"{client} is not installed: run make clients")
        given = json.dumps({"url": f"{server.http}/v1", "folder": str(tmp_path), **values})
        done = subprocess.run(
            [python, PROGRAMS / f"with_{client.replace('-', '_')}.py", given],
            env={"PATH": os.environ["PATH"], "HOME": str(tmp_path), **_ENVIRONMENT},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=_SECONDS,
        )
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
        return json.loads(done.stdout.splitlines()[-1])

    return run
