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
METHODS = ("supervised", "dpo", "reinforcement")
PYTHONS = (sys.executable, *filter(None, os.environ.get("OPENAI_INTERPRETERS", "").split(":")))


async def told_by(python: str, url: str, folder: Path, *, model: str, epochs: Mapping[str, int]) -> dict[str, Any]:
    """What the script tells at its end; it has checked by then what needs no numbers."""
    given = json.dumps({"url": f"{url}/v1", "model": model, "methods": METHODS, "epochs": epochs, "seconds": 240})
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
    assert told["methods"].keys() == set(METHODS)
    assert "line 2" in told["failed"] and "wrong.jsonl" in told["failed"]
    return told


each_version = pytest.mark.parametrize("python", PYTHONS, ids=range(len(PYTHONS)))
