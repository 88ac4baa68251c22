"""A finished model or adapter of a task, measured on a file of rows."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from peft import PeftModel
from torch import nn
from transformers import AutoConfig

from graft.adapters.base.base import Base
from graft.adapters.folder.record import TrainedRecord
from graft.training.errors import ConfigurationError
from graft.training.model.configuration import num_positions
from graft.training.model.loading import load, load_base, load_tokenizer
from graft.training.parallel.layout import Alone
from graft.training.runtime.device import device_kind, own_device
from graft.training.tasks.data import TaskData
from graft.training.tasks.framing.frame import Frame
from graft.training.tasks.kinds.catalog import KINDS
from graft.training.tasks.measured import TaskMeasure
from graft.training.tasks.model import config_of
from graft.training.tasks.record import TaskRecord
from graft.training.tasks.rows.reading import read_rows
from graft.training.tasks.settings import TaskSettings
from graft.training.tasks.task import Setup, Task

_ADAPTER = "adapter_config.json"


@dataclass(frozen=True, kw_only=True)
class Trained:
    """What ``graft finetune --task`` wrote into ``folder``."""

    folder: Path
    record: TaskRecord
    weights: Path
    """The folder itself, or the base's of an adapter."""

    @classmethod
    def of(cls, folder: Path, base: Base | None) -> Self:
        """Raises ``ConfigurationError`` where it is nothing of the kind, or of another base."""
        record = TaskRecord.read(folder)
        if not (folder / _ADAPTER).exists():
            if base is not None:
                raise ConfigurationError(f"{folder} is a whole model: leave --base out.")
            return cls(folder=folder, record=record, weights=folder)
        if base is None:
            raise ConfigurationError(f"{folder} is an adapter of {record.base}: say with --base where that is.")
        if base.digest != record.base_digest:
            raise ConfigurationError(
                f"{folder} is an adapter of {record.base} ({record.base_digest}), and {base.path} is another base "
                f"({base.digest})."
            )
        return cls(folder=folder, record=record, weights=base.path)

    def measure(self, data: Path, *, rows_per_batch: int = 16) -> dict[str, float]:
        """``loss`` and the task's measures. Raises ``DataError``, ``ConfigurationError``."""
        settings = TaskSettings(**self.record.settings)
        config, tokenizer = (
            AutoConfig.from_pretrained(self.weights, local_files_only=True),
            load_tokenizer(self.weights),
        )
        frame = Frame.of(tokenizer, config)
        if settings.delimiter_tokens:
            frame = frame.delimited(tokenizer)
        setup = Setup(settings=settings, config=config, tokenizer=tokenizer, frame=frame, trained=self.record)
        kind = KINDS[settings.task]
        numbered = read_rows(data, kind.parse)
        task = kind.of(data, numbered, setup)
        room, num_embeddings = num_positions(config), max(config.vocab_size, len(tokenizer))
        rows = TaskData.of(data, numbered, task, num_positions=room, num_embeddings=num_embeddings)
        device = device_kind()
        model = self._model(task, frame.pad_id, device)
        found: dict[str, float] = TaskMeasure(task=task, data=rows, rows_per_batch=rows_per_batch).found(
            model, Alone(device)
        )
        return found

    def _model(self, task: Task, pad_id: int, device: str) -> nn.Module:
        config = config_of(self.weights, task.head, pad_id=pad_id)
        made_by: Any = task.head.model_class(config)
        if self.weights == self.folder:
            whole: nn.Module = load(self.folder, made_by).to(own_device(device))
            return whole
        trained = TrainedRecord.read(self.folder)
        if trained is None:
            raise ConfigurationError(f"{self.folder} has no graft.json, which says in which form the base was held.")
        base = load_base(self.weights, trained.form, device=own_device(device), model_class=made_by, config=config)
        adapted: nn.Module = PeftModel.from_pretrained(base, self.folder).eval()
        return adapted
