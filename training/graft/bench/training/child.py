"""A training of a comparison in a process of its own, which reads a file and prints a line of JSON."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from graft.training.errors import TrainingError


def told_by(module: str, spec: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """What ``python -m module SPEC.json`` prints last; ``spec`` says who trains. Raises ``TrainingError``."""
    path = folder / "spec.json"
    path.write_text(json.dumps(spec))
    # On several GPUs Hugging Face's trainers would take all of them.
    environment = {"CUDA_VISIBLE_DEVICES": "0", **os.environ}
    command = [sys.executable, "-m", module, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        raise TrainingError(f"the training by {spec['who']} failed: {done.stderr.strip()[-1500:]}")
    told: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return told
