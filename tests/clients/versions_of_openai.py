"""One script of a user of OpenAI's, unmodified, with 2.x and 3.x of the package: files and jobs of all three methods.

`OPENAI_INTERPRETERS` names Pythons, separated by colons, each with a version of `openai`.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

PROGRAM = Path(__file__).parent / "programs" / "with_fine_tuning.py"
FEW: Mapping[str, Mapping[str, Any]] = {
    "supervised": {"n_epochs": 1, "batch_size": 2},
    "dpo": {"n_epochs": 1, "batch_size": 2, "beta": 0.1},
    "reinforcement": {"n_epochs": 1, "batch_size": 2},
}
PYTHONS = (sys.executable, *filter(None, os.environ.get("OPENAI_INTERPRETERS", "").split(":")))


async def told_by(
    python: str, url: str, folder: Path, *, model: str, methods: Mapping[str, Mapping[str, Any]] = FEW
) -> dict[str, Any]:
    """What the script tells at its end, having checked what needs no numbers. `methods`: their hyperparameters."""
    given = json.dumps({"url": f"{url}/v1", "model": model, "methods": methods, "seconds": 900})
    process = await asyncio.create_subprocess_exec(
        python,
        str(PROGRAM),
        given,
        cwd=folder,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        said, errors = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, errors.decode()[-4000:]
    told: dict[str, Any] = json.loads(said.splitlines()[-1])
    assert told["methods"].keys() == methods.keys()
    assert "line 2" in told["failed"] and "wrong.jsonl" in told["failed"]
    return told


each_version = pytest.mark.parametrize("python", PYTHONS, ids=range(len(PYTHONS)))
