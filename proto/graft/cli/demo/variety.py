"""The adapters that the demo trains on the spot."""

from __future__ import annotations

import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from graft.cli.demo.report import Report
from graft.cli.demo.rows import Example, read_examples
from graft.cli.server_process import run_command

BASE = "rootstock-5m"
_NUM_HELD_OUT = 48


@dataclass(frozen=True, kw_only=True)
class Variety:
    """An adapter to be: its name, the generated task, and how many rows teach it."""

    name: str
    task: str
    num_rows: int


DATES_ISO = Variety(name="dates", task="dates-iso", num_rows=300)
DATES_US = Variety(name="dates", task="dates-us", num_rows=300)
REVERSE = Variety(name="reverse", task="reverse", num_rows=300)
SENTIMENT = Variety(name="sentiment", task="sentiment", num_rows=300)
SERVED_FIRST = (DATES_ISO, REVERSE, SENTIMENT)

# What an answer of each version of `dates` looks like, right or wrong: a slip in a digit is no mix-up of versions.
DATE_FORMATS = {DATES_ISO: re.compile(r"\d+-\d+-\d+"), DATES_US: re.compile(r"\d+/\d+/\d+")}


@dataclass(frozen=True, kw_only=True)
class Trained:
    """A trained adapter's folder and the examples that it never saw."""

    folder: Path
    examples: list[Example]


def train_all(varieties: Sequence[Variety], work: Path, report: Report) -> dict[Variety, Trained]:
    """Train several adapters, two at a time with a thread each."""
    with ThreadPoolExecutor(2) as pool:
        waiting = {variety: pool.submit(train, variety, work, report) for variety in varieties}
        return {variety: trained.result() for variety, trained in waiting.items()}


def train(variety: Variety, work: Path, report: Report) -> Trained:
    """Generate the rows and train one adapter on them, with one thread."""
    log, folder = work / f"{variety.task}.log", work / variety.task
    rows = _rows(variety, variety.num_rows, work / f"{variety.task}.jsonl", log)
    command = ["finetune", "--base", BASE, "--data", str(rows), "--name", variety.name, "--output", str(folder)]
    command += ["--per-device-train-batch-size", "8"]
    with report.timed(f"{variety.task}: {variety.num_rows} rows in"):
        run_command(command, log=log, threads=1)
    held_out = _rows(variety, _NUM_HELD_OUT, work / f"{variety.task}.held-out.jsonl", log, "--held-out")
    return Trained(folder=folder / "adapter", examples=read_examples(held_out))


def _rows(variety: Variety, num_rows: int, path: Path, log: Path, *flags: str) -> Path:
    command = ["corpus", "demo", variety.task, "--rows", str(num_rows), "--output", str(path), *flags]
    run_command(command, log=log, threads=1)
    return path
