"""Soft prompts as peft saves them: read as peft computes them, accepted whole or refused with all reasons."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from graft.adapters.adapter import AdapterVersion
from graft.adapters.base.base import Base
from graft.adapters.catalog.catalog import Catalog
from graft.adapters.compatibility import incompatibilities
from graft.adapters.errors import GraftError, IncompatibleAdapter, InvalidAdapter
from graft.adapters.folder.manifest import read_manifest
from graft.adapters.folder.soft_prompt import read_soft_prompt, virtual_tokens_in
from graft.adapters.form import ServingForm
from tests.adapters.making import LIMITS, WIDTH, make_adapter

COUNT = 5
_CONFIG: dict[str, Any] = {"peft_type": "PROMPT_TUNING", "task_type": "CAUSAL_LM", "num_virtual_tokens": COUNT}
Accept = Callable[..., AdapterVersion]


def matrix(count: int = COUNT, width: int = WIDTH) -> np.ndarray[Any, Any]:
    return np.random.default_rng(0).normal(size=(count, width)).astype(np.float32)


def write(folder: Path, *, tensors: dict[str, Any] | None = None, **config: Any) -> Path:
    folder.mkdir(parents=True)
    save_file({"prompt_embeddings": matrix()} if tensors is None else tensors, folder / "adapter_model.safetensors")
    import json

    (folder / "adapter_config.json").write_text(json.dumps(_CONFIG | config))
    return folder


def fields(error: GraftError) -> list[str]:
    return [reason.field.removeprefix("adapter_config.json:") for reason in error.reasons]


@pytest.mark.parametrize("kind", ["PROMPT_TUNING", "P_TUNING", "MULTITASK_PROMPT_TUNING"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_what_peft_saves_is_what_peft_puts_before_a_prompt(
    accept: Accept, tmp_path: Path, kind: str, dtype: str
) -> None:
    import torch
    from peft import PeftModelForCausalLM, get_peft_config
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    heads = {"num_attention_heads": 2, "num_key_value_heads": 2, "num_hidden_layers": 1}
    llama = LlamaConfig(vocab_size=40, hidden_size=WIDTH, intermediate_size=32, **heads)
    more = {"MULTITASK_PROMPT_TUNING": {"num_tasks": 1, "num_ranks": 3}, "P_TUNING": {"encoder_hidden_size": 8}}
    config = get_peft_config({**_CONFIG, **more.get(kind, {}), "peft_type": kind})
    model = PeftModelForCausalLM(LlamaForCausalLM(llama), config).to(getattr(torch, dtype))
    model.save_pretrained(str(tmp_path / "saved"))
    with torch.no_grad():
        tasks = torch.zeros(1, dtype=torch.long) if kind.startswith("MULTI") else None
        expected = model.get_prompt(batch_size=1, task_ids=tasks)[0].float().numpy()
    found = read_soft_prompt(tmp_path / "saved")
    assert found == pytest.approx(expected, rel=2**-7 if dtype == "bfloat16" else 1e-6, abs=1e-6)
    version = accept(tmp_path / "saved")
    assert (version.num_virtual_tokens, version.rank, version.target_modules) == (COUNT, 0, ())


def test_a_version_is_kept_as_a_soft_prompt(accept: Accept, catalog: Catalog, tmp_path: Path) -> None:
    version = accept(write(tmp_path / "a"))
    found = catalog.get_version(version.tenant, version.adapter, "1")
    assert (found, found.num_virtual_tokens) == (version, COUNT)
    assert virtual_tokens_in(tmp_path / "a") == COUNT
    lora = make_adapter(tmp_path / "lora")
    assert (accept(lora).num_virtual_tokens, virtual_tokens_in(lora)) == (0, 0)


@pytest.mark.parametrize(
    ("config", "tensors", "found"),
    [
        ({"num_virtual_tokens": 4}, None, ["adapter_model.safetensors:prompt_embeddings"]),
        ({}, {"prompt_embeddings": matrix(width=WIDTH + 1)}, ["adapter_model.safetensors:prompt_embeddings"]),
        ({}, {"prompt_embeddings": matrix()[0]}, ["adapter_model.safetensors:prompt_embeddings"]),
        ({}, {"prompt_embeddings": 0 * matrix()}, ["adapter_model.safetensors"]),
        ({}, {"prompt_embeddings": matrix(), "extra": matrix()}, ["adapter_model.safetensors:extra"]),
        ({}, {"other": matrix()}, ["adapter_model.safetensors:prompt_embeddings", "adapter_model.safetensors:other"]),
        (
            {"num_virtual_tokens": LIMITS.max_virtual_tokens + 1},
            {"prompt_embeddings": matrix(LIMITS.max_virtual_tokens + 1)},
            ["num_virtual_tokens"],
        ),
        ({"option_of_a_later_peft": True, "modules_to_save": ["lm_head"]}, None,
         ["option_of_a_later_peft", "modules_to_save"]),
        (
            {"peft_type": "MULTITASK_PROMPT_TUNING"},
            None,
            ["adapter_model.safetensors:prefix_task_cols", "adapter_model.safetensors:prefix_task_rows"],
        ),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused(
    accept: Accept, tmp_path: Path, config: dict[str, Any], tensors: dict[str, Any] | None, found: list[str]
) -> None:
    folder = write(tmp_path / "a", tensors=tensors, **config)
    with pytest.raises(IncompatibleAdapter) as refused:
        accept(folder)
    assert fields(refused.value) == found


@pytest.mark.parametrize(
    ("config", "tensors", "found"),
    [
        ({"num_virtual_tokens": 0}, None, ["num_virtual_tokens"]),
        ({"num_virtual_tokens": "5"}, None, ["num_virtual_tokens"]),
        ({"num_transformer_submodules": 2}, None, ["num_transformer_submodules"]),
        ({"peft_type": "MULTITASK_PROMPT_TUNING", "num_tasks": 2}, None, ["num_tasks"]),
        ({"peft_type": "PREFIX_TUNING"}, None, ["peft_type"]),
        ({}, {"prompt_embeddings": np.full((COUNT, WIDTH), np.nan, np.float32)},
         ["adapter_model.safetensors:prompt_embeddings"]),
    ],
)  # fmt: skip
def test_what_is_broken_or_has_no_embeddings_is_refused(
    accept: Accept, tmp_path: Path, config: dict[str, Any], tensors: dict[str, Any] | None, found: list[str]
) -> None:
    folder = write(tmp_path / "a", tensors=tensors, **config)
    with pytest.raises(InvalidAdapter) as refused:
        accept(folder)
    assert fields(refused.value) == found


def test_prefix_tuning_is_told_why(accept: Accept, tmp_path: Path) -> None:
    with pytest.raises(InvalidAdapter, match="keys and values for every layer"):
        accept(write(tmp_path / "a", peft_type="PREFIX_TUNING"))


def test_the_base_knows_its_width(base: Base) -> None:
    assert base.embedding_width == WIDTH


def test_a_server_without_soft_prompts_says_so(base: Base, tmp_path: Path) -> None:
    limits = replace(LIMITS, max_virtual_tokens=0)
    manifest, form = read_manifest(write(tmp_path / "a")), ServingForm.NF4
    (reason,) = incompatibilities(manifest, base, limits, declared_base=None, form=form, serving_form=form)
    assert "--num-soft-prompts" in str(reason)
