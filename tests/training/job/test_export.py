"""What a base's folder holds beside its weights."""

from __future__ import annotations

from pathlib import Path

from peft import LoraConfig, TaskType

from graft.adapters.base.base import Base
from graft.adapters.form import ServingForm
from graft.training.adapt.made.written import whole_adapter
from graft.training.adapt.methods.through_peft import inject, save_adapter
from graft.training.compress.quantize import Quantization
from graft.training.job.export import write_base
from graft.training.model.loading import load_base, load_tokenizer


def test_named_chat_templates_come_along(tiny_base: Path, tmp_path: Path) -> None:
    """And whoever wrote the folder, others can read them."""
    tokenizer = load_tokenizer(tiny_base)
    tokenizer.chat_template = {"default": tokenizer.chat_template, "tool_use": "{{ messages }} with tools"}
    named, made = tmp_path / "named", tmp_path / "made"
    write_base(load_base(tiny_base, ServingForm.BF16), tokenizer, named, card="")
    Quantization(base=Base.from_folder(named), form=ServingForm.INT8, output=made).execute()
    assert load_tokenizer(made).chat_template == tokenizer.chat_template
    for folder in (named, made):
        paths = list(folder.rglob("*"))
        assert {path.stat().st_mode & 0o777 for path in paths if path.is_file()} == {0o644}
        assert all(path.stat().st_mode & 0o100 for path in paths if path.is_dir())


def test_what_lies_beside_an_adapter_keeps_its_rights(tiny_base: Path, tmp_path: Path) -> None:
    """A checkpoint's folder gets the adapter from one process while others open their own files in it already."""
    lora = LoraConfig(r=2, target_modules=["q_proj"], task_type=TaskType.CAUSAL_LM)
    (tmp_path / "state").mkdir()
    model = inject(load_base(tiny_base, ServingForm.BF16), lora, base_name="tiny")
    save_adapter(model, whole_adapter(model), tmp_path)
    rights = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()}
    assert rights == {"state": 0o755, "adapter_config.json": 0o644, "adapter_model.safetensors": 0o644}
