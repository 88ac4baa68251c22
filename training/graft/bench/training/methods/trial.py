"""One method's training by ``graft finetune``, in a process of its own, and what it took."""

from __future__ import annotations

import shutil
import string
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from graft.adapters.base.base import Base
from graft.bench.training.forks import forked, run_graft
from graft.bench.training.methods import bases
from graft.training.adapt.adaptable import Adaptable
from graft.training.adapt.methods.catalog import method_of
from graft.training.finetune.settings import FinetuneSettings
from graft.training.loop.progress import read_metrics
from graft.training.model.structure import empty_decoder

COMMON = {
    "max_steps": "48",
    "per_device_train_batch_size": "32",
    "max_length": "64",
    "learning_rate": "0.002",
    "report_examples": "0",
}


@dataclass(frozen=True, kw_only=True)
class Row:
    """A row of the table: settings that are not common to all, and what is learned on."""

    settings: Mapping[str, str] = field(default_factory=dict)
    base: Callable[[Path], Path] = bases.shipped
    """Makes it in a folder, where it is not there already."""


_LONG = {"max_steps": "80"}
METHODS: Mapping[str, Row] = {
    "lora": Row(),
    "rslora": Row(),
    "dora": Row(),
    "lora+": Row(),
    "pissa": Row(settings={"learning_rate": "0.001"}),
    "olora": Row(settings={"learning_rate": "0.001"}),
    "qlora": Row(settings={"method": "lora"}, base=bases.in_nf4),
    "adalora": Row(settings={**_LONG, "learning_rate": "0.005"}),
    "loha": Row(settings={"learning_rate": "0.005"}),
    "lokr": Row(settings={**_LONG, "learning_rate": "0.01"}),
    "vera": Row(settings={**_LONG, "learning_rate": "0.02", "r": "64"}),
    "ia3": Row(settings={**_LONG, "learning_rate": "0.02"}),
    "oft": Row(settings={"learning_rate": "0.005"}),
    "trainable_tokens": Row(
        settings={**_LONG, "learning_rate": "0.01", "trainable_tokens": ",".join(string.ascii_letters)}
    ),
    "prefix_tuning": Row(settings={**_LONG, "learning_rate": "0.02", "packing": "false"}),
    "prompt_tuning": Row(settings={**_LONG, "learning_rate": "0.05", "packing": "false"}),
    "p_tuning": Row(settings={**_LONG, "learning_rate": "0.005", "packing": "false"}),
    "multitask_prompt_tuning": Row(settings={**_LONG, "learning_rate": "0.05", "packing": "false"}),
    "houlsby": Row(settings={**_LONG, "learning_rate": "0.003"}),
    "pfeiffer": Row(settings={**_LONG, "learning_rate": "0.003"}),
    "bitfit": Row(settings={**_LONG, "learning_rate": "0.01"}, base=bases.with_biases),
    "last_layers": Row(settings={"method": "full", "trainable_layers": "2", "learning_rate": "0.001"}),
    "full": Row(settings={"learning_rate": "0.0003"}),
}
"""By name, with what is not common to all."""


@dataclass(frozen=True, kw_only=True)
class Trial:
    """What a training came to."""

    num_parameters: int
    """That learned."""
    peak_bytes: int
    """Of the process, from its start to its end."""
    own_bytes: int
    """Of it what came after the libraries."""
    tokens_per_second: float
    """Median over its steps but the first tenth."""


def given(name: str) -> dict[str, str]:
    """The settings of a row of the table."""
    return {"method": name, **COMMON, **METHODS[name].settings}


def settings_of(name: str) -> FinetuneSettings:
    values: dict[str, Any] = {key: {"true": True, "false": False}.get(one, one) for key, one in given(name).items()}
    return FinetuneSettings.from_mapping(values)


def run(name: str, base: Path, data: Path, work: Path) -> Trial:
    """Into the folder ``work/NAME``. Raises ``StageFailed``."""
    folder = work / plain(name)
    shutil.rmtree(folder, ignore_errors=True)  # of a run that was ended
    command = ["finetune", "--base", str(base), "--data", str(data), "--name", plain(name), "--output", str(folder)]
    command += [part for one in given(name).items() for part in flag(*one)]
    done = forked(_trained, command, name, base, log=folder.with_suffix(".log"))
    rows = read_metrics(folder)
    speed = median(row["tokens_per_second"] for row in rows[len(rows) // 10 :])
    return Trial(
        num_parameters=done.value, peak_bytes=done.peak_bytes, own_bytes=done.own_bytes, tokens_per_second=speed
    )


def _trained(command: list[str], name: str, base: Path) -> int:
    """How many parameters learned, counted on a base without memory."""
    run_graft(command)
    found = Base.from_folder(base)
    model = method_of(settings_of(name)).inject(empty_decoder(found), Adaptable.of(found), seed=0)
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


def plain(name: str) -> str:
    """As a folder or an adapter may be called."""
    return name.replace("+", "-plus").replace("_", "-")


def flag(name: str, value: str) -> tuple[str, ...]:
    """As ``graft finetune`` takes a setting."""
    called = name.replace("_", "-")
    if value in ("true", "false"):
        return (f"--{called}" if value == "true" else f"--no-{called}",)
    return (f"--{called}", value)
