"""One method's training by ``graft finetune``, in a process of its own, and what it took."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from graft.training.errors import TrainingError
from graft.training.finetune.settings import FinetuneSettings
from graft.training.loop.progress import read_metrics

BASE = "rootstock-5m"
COMMON = {
    "max_steps": "80",
    "per_device_train_batch_size": "32",
    "max_length": "64",
    "learning_rate": "0.002",
    "report_examples": "0",
}
METHODS: Mapping[str, Mapping[str, str]] = {
    "lora": {},
    "rslora": {},
    "dora": {},
    "lora+": {},
    "pissa": {"learning_rate": "0.001"},
    "olora": {"learning_rate": "0.001"},
    "qlora": {"method": "lora", "bnb_4bit_use_double_quant": "true"},
    "adalora": {"learning_rate": "0.005"},
    "loha": {"learning_rate": "0.005"},
    "lokr": {"learning_rate": "0.01"},
    "vera": {"learning_rate": "0.02", "r": "64"},
    "ia3": {"learning_rate": "0.02"},
    "oft": {"learning_rate": "0.005"},
    "prefix_tuning": {"learning_rate": "0.02", "packing": "false"},
    "prompt_tuning": {"learning_rate": "0.05", "packing": "false"},
    "p_tuning": {"learning_rate": "0.005", "packing": "false"},
    "multitask_prompt_tuning": {"learning_rate": "0.05", "packing": "false"},
    "houlsby": {"learning_rate": "0.003"},
    "pfeiffer": {"learning_rate": "0.003"},
    "full": {"learning_rate": "0.0003"},
}
"""By name, with what is not common to all. ``bitfit`` and ``trainable_tokens`` cannot learn it: the base has no biases,
and there is no new token."""


class TrialFailed(TrainingError, RuntimeError):
    """A method's command ended with an error."""

    exit_code = 1


@dataclass(frozen=True, kw_only=True)
class Trial:
    """What a training came to."""

    name: str
    """In the table of methods."""
    adapter: Path
    peak_bytes: int
    """Of the process, from its start to its end."""
    tokens_per_second: float
    """Median over its steps but the first tenth."""


def given(name: str) -> dict[str, str]:
    """The settings of a row of the table."""
    return {"method": name, **COMMON, **METHODS[name]}


def settings_of(name: str) -> FinetuneSettings:
    values = {setting: {"true": True, "false": False}.get(value, value) for setting, value in given(name).items()}
    return FinetuneSettings.from_mapping(values)


def run(name: str, data: Path, folder: Path) -> Trial:
    """Raises ``TrialFailed``."""
    work = folder / plain(name)
    command = ["finetune", "--base", BASE, "--data", str(data), "--name", plain(name), "--output", str(work)]
    command += [part for one in given(name).items() for part in _flag(*one)]
    peak = graft(command, log=work.with_suffix(".log"))
    rows = read_metrics(work)
    speed = median(row["tokens_per_second"] for row in rows[len(rows) // 10 :])
    return Trial(
        name=name, adapter=work / ("base" if name == "full" else "adapter"), peak_bytes=peak, tokens_per_second=speed
    )


def plain(name: str) -> str:
    """As a folder or an adapter may be called."""
    return name.replace("+", "-plus").replace("_", "-")


def graft(arguments: Sequence[str], *, log: Path) -> int:
    """Runs ``graft ARGUMENTS`` and returns the peak of its memory in bytes. Raises ``TrialFailed``."""
    with log.open("wb") as file:
        process = subprocess.Popen([sys.executable, "-m", "graft.cli.main", *arguments], stdout=file, stderr=file)
        _, status, usage = os.wait4(process.pid, 0)
    process.returncode = code = os.waitstatus_to_exitcode(status)
    if code:
        last = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-3:]
        raise TrialFailed(f"graft {' '.join(arguments[:4])} … ended with {code}: {' '.join(last)}")
    return usage.ru_maxrss * 1024


def _flag(name: str, value: str) -> tuple[str, ...]:
    flag = name.replace("_", "-")
    if value in ("true", "false"):
        return (f"--{flag}" if value == "true" else f"--no-{flag}",)
    return (f"--{flag}", value)
