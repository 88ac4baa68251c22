"""deploy/Containerfile, read: its stages and the variables that they set."""

from __future__ import annotations

import re
from pathlib import Path

DEPLOY = Path(__file__).parents[2] / "deploy"


def stages() -> dict[str, tuple[str, str]]:
    """By name: what a stage is built from, and its instructions with continued lines joined."""
    text = re.sub(r"^#.*\n", "", (DEPLOY / "Containerfile").read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    found = re.findall(r"^FROM (\S+) AS (\S+)\n(.*?)(?=^FROM |\Z)", text, re.MULTILINE | re.DOTALL)
    return {name: (base, body) for base, name, body in found}


def variables(stage: str) -> dict[str, str]:
    """By name: what ENV says in the stage itself."""
    said = re.findall(r"^ENV (.*)$", stages()[stage][1], re.MULTILINE)
    return dict(re.findall(r"\b([A-Z_]+)=(\S+)", " ".join(said)))
