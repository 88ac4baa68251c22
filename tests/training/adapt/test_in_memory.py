"""An adapter that never was a folder has the bytes that peft would have written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from graft.adapters.adapter import Lineage
from graft.adapters.base.base import Base
from graft.adapters.folder.record import TrainedRecord
from graft.adapters.form import ServingForm
from graft.training.adapt.adaptable import Adaptable
from graft.training.adapt.made.in_memory import adapter_in_memory
from graft.training.adapt.made.written import whole_adapter
from graft.training.adapt.methods.catalog import method_of
from graft.training.adapt.settings import AdaptSettings
from graft.training.errors import ConfigurationError
from graft.training.model.loading import load_base
from tests.training.adapt.choices import METHODS


def made(name: str, tiny_base: Path) -> tuple[Any, Any, TrainedRecord]:
    base = Base.from_folder(tiny_base)
    method = method_of(AdaptSettings.from_mapping({"method": name, **METHODS[name]}))
    model = method.inject(load_base(tiny_base, ServingForm.FP32), Adaptable.of(base), seed=0)
    lineage = Lineage(job="in-memory", data_digest=None, code_version=None, seed=0)
    return method, model, TrainedRecord(base=base.identity, form=ServingForm.FP32, lineage=lineage)


@pytest.mark.parametrize("name", ["lora", "dora", "ia3", "prompt_tuning"])
def test_the_bytes_are_those_of_a_folder(name: str, tiny_base: Path, tmp_path: Path) -> None:
    method, model, record = made(name, tiny_base)
    with torch.no_grad():
        for one in model.parameters():
            if one.requires_grad:
                one.add_(0.25)
    files = adapter_in_memory(method, model, record)
    assert set(files) == {"adapter_config.json", "adapter_model.safetensors", "graft.json"}
    model.save_pretrained(tmp_path / "peft", save_embedding_layers=False)
    assert files["adapter_model.safetensors"] == (tmp_path / "peft" / "adapter_model.safetensors").read_bytes()
    assert ordered(files["adapter_config.json"]) == ordered((tmp_path / "peft" / "adapter_config.json").read_bytes())
    (tmp_path / "graft").mkdir()
    method.save(model, whole_adapter(model), tmp_path / "graft")
    record.write(tmp_path / "graft")
    assert {path.name: path.read_bytes() for path in (tmp_path / "graft").iterdir()} == files


def ordered(config: bytes) -> dict[str, Any]:
    values = json.loads(config)
    values.pop("tokenizer_name_or_path", None)  # peft writes a path of this machine
    return {name: sorted(value) if isinstance(value, list) else value for name, value in values.items()}


def test_what_makes_a_base_is_not_sent(tiny_base: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"method full makes is a folder"):
        adapter_in_memory(*made("full", tiny_base))
