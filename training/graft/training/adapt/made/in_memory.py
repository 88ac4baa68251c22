"""A finished adapter without a folder: the same files, as bytes."""

from __future__ import annotations

from torch import nn

from graft.adapters.folder.record import TRAINED_FILE, TrainedRecord
from graft.training.adapt.made.written import whole_adapter
from graft.training.adapt.method import Method
from graft.training.adapt.methods.through_peft import PeftMethod
from graft.training.errors import ConfigurationError


def adapter_in_memory(method: Method, model: nn.Module, record: TrainedRecord) -> dict[str, bytes]:
    """What ``Written`` puts into a folder, but for the reference. Where it is sharded, every process calls this.

    Raises ``ConfigurationError`` for a method that makes a base.
    """
    if not isinstance(method, PeftMethod):
        raise ConfigurationError(f"what method {method.name} makes is a folder, and no adapter to be sent: take lora.")
    return {**method.files(model, whole_adapter(model)), TRAINED_FILE: record.text().encode()}
