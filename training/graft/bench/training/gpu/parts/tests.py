"""The tests of `tests/gpu`, where a clone and pytest are here."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path
from xml.etree import ElementTree

from graft.bench.training.gpu.teller import Teller

_FOLDER = Path("tests/gpu")
_ENGINE = _FOLDER / "engine"


def measure(teller: Teller) -> None:
    if not _FOLDER.is_dir():
        teller.lacks(f"{_FOLDER}: run this in a clone")
        return
    if find_spec("pytest") is None:
        teller.lacks("pytest")
        return
    with tempfile.TemporaryDirectory() as place:
        results = Path(place) / "results.xml"
        command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", str(_FOLDER), f"--junitxml={results}"]
        # Of these folders alone: the tests' own beginnings ask for all that a server needs.
        command += [f"--confcutdir={_FOLDER}", "--continue-on-collection-errors", *_left_out(teller)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if not results.exists():
            teller.lacks(f"pytest could not begin: {(done.stdout + done.stderr)[-1000:]}")
            return
        cases = list(ElementTree.parse(results).iter("testcase"))
    for kind in ("failure", "error", "skipped"):
        found = [case for case in cases if case.find(kind) is not None]
        teller.figure(kind, len(found), "tests")
        told = {f"{case.get('name')}: {(_reason(case, kind))[:300]}" for case in found}
        if told:
            teller.text(kind, "\n".join(sorted(told)))
    teller.figure("passed", sum(len(case) == 0 for case in cases), "tests")


def _left_out(teller: Teller) -> list[str]:
    missing = [name for name in ("vllm", "pytest_asyncio") if find_spec(name) is None]
    if missing:
        teller.lacks(f"{' and '.join(missing)}: {_ENGINE} was left out")
    return [f"--ignore={_ENGINE}"] if missing else []


def _reason(case: ElementTree.Element, kind: str) -> str:
    found = case.find(kind)
    return " ".join((found.get("message") or "").split()) if found is not None else ""
