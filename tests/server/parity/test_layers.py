"""The reference of a large base, one module at a time, is peft's on the whole model."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import Gemma2Config, GPTNeoXConfig, LlamaConfig, PreTrainedConfig, Qwen2Config
from transformers.models.auto.modeling_auto import AutoModelForCausalLM

from graft.adapters.base.base import shipped_bases
from graft.server.parity.layers import LayeredOracle
from graft.server.parity.oracle import Unmeasurable, _Oracle, logprobs
from tests.server.engine.making import write_adapter, write_virtual_tokens

_SMALL = {"vocab_size": 96, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 3}
_HEADS = {"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 64}
CONFIGS: dict[str, PreTrainedConfig] = {
    "llama": LlamaConfig(**_SMALL, **_HEADS),
    "llama, tied": LlamaConfig(**_SMALL, **_HEADS, tie_word_embeddings=True),
    "qwen2, biases": Qwen2Config(**_SMALL, **_HEADS),
    "gemma-2, soft caps and windows": Gemma2Config(**_SMALL, **_HEADS, head_dim=16, sliding_window=8),
    "gpt-neox": GPTNeoXConfig(**_SMALL, num_attention_heads=4, max_position_embeddings=64),
}


def _base(name: str, folder: Path) -> Path:
    if name == "shipped":
        return next(iter(shipped_bases().values()))
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(CONFIGS[name], dtype=torch.bfloat16).save_pretrained(folder)
    return folder


def _adapter(base: Path, folder: Path) -> Path:
    model = AutoModelForCausalLM.from_pretrained(base)
    linear = {
        name: (module.out_features, module.in_features)
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and ".layers." in name
    }
    return write_adapter(folder, linear, rank=8, seed=1)


@pytest.mark.parametrize("form", ["nf4", "bf16", "fp32"])
@pytest.mark.parametrize("name", ["shipped", *CONFIGS])
def test_modules_say_what_the_whole_model_says(name: str, form: str, tmp_path: Path) -> None:
    base = _base(name, tmp_path / "base")
    folder = str(_adapter(base, tmp_path / "adapter"))
    whole = _Oracle(str(base), form).rows(folder=folder, num_rows=2, num_tokens=12)
    told: list[float] = []
    layered = LayeredOracle(str(base), form, progress=told.append)
    for _ in range(2):  # nothing stays of an adapter that was asked before
        found = layered.rows(folder=folder, rows=[row["token_ids"] for row in whole])  # type: ignore[misc]
        for one, other in zip(found, whole, strict=True):
            assert one["token_ids"] == other["token_ids"]
            assert one["logprobs"] == pytest.approx(other["logprobs"], abs=1e-5)
    assert told == sorted(told[: len(told) // 2]) * 2 and told[-1] == 1.0
    assert max(later - before for before, later in pairwise(told)) < 0.5


@pytest.mark.parametrize("name", CONFIGS)
def test_a_soft_prompt_says_what_pefts_model_says_and_leaves_the_base_as_it_was(name: str, tmp_path: Path) -> None:
    base = _base(name, tmp_path / "base")
    prompt_ND = np.random.default_rng(0).normal(0, 0.1, (5, 64)).astype(np.float32)
    soft, lora = str(write_virtual_tokens(tmp_path / "soft", prompt_ND)), str(_adapter(base, tmp_path / "lora"))
    oracle, layered = _Oracle(str(base), "fp32"), LayeredOracle(str(base), "fp32")
    asked = {"num_rows": 1, "num_tokens": 12}
    (before,) = oracle.rows(folder=lora, **asked)
    (row,) = oracle.rows(folder=soft, **asked)
    assert oracle.rows(folder=lora, **asked) == [before]
    (again,) = layered.rows(folder=soft, rows=[row["token_ids"]])  # type: ignore[list-item]
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32), soft).eval()
    with torch.inference_mode():
        ids = torch.tensor([row["token_ids"]])
        logprobs_LV = model(input_ids=ids).logits[0, len(prompt_ND) :].log_softmax(-1)
    expected = logprobs_LV[:-1].gather(1, ids[0, 1:, None]).flatten().tolist()
    for one in (row, again):
        assert one["logprobs"] == pytest.approx(expected, abs=1e-4)


def test_soft_caps_are_computed_as_the_engine_computes_them(tmp_path: Path) -> None:
    """At a cap of 1 the scores are far from what torch's fused kernel, which knows none, makes of them."""
    config = Gemma2Config(**_SMALL, **_HEADS, head_dim=16, sliding_window=8, tie_word_embeddings=False)
    config.attn_logit_softcapping, config.query_pre_attn_scalar, config.initializer_range = 1.0, 1, 0.2
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config, dtype=torch.float32).save_pretrained(tmp_path / "base")
    base, folder = str(tmp_path / "base"), str(_adapter(tmp_path / "base", tmp_path / "adapter"))
    (row,) = _Oracle(base, "fp32").rows(folder=folder, num_rows=1, num_tokens=12)
    (again,) = LayeredOracle(base, "fp32").rows(folder=folder, rows=[row["token_ids"]])  # type: ignore[list-item]
    model = PeftModel.from_pretrained(
        AutoModelForCausalLM.from_pretrained(base, attn_implementation="eager"), folder
    ).eval()
    for one in (row, again):
        assert one["logprobs"] == pytest.approx(logprobs(model, row["token_ids"]), abs=1e-4)  # type: ignore[arg-type]


def test_a_base_that_is_quantized_already_is_refused(tmp_path: Path) -> None:
    base = _base("llama", tmp_path / "base")
    config = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(json.dumps(config | {"quantization_config": {"quant_method": "gptq", "bits": 4}}))
    with pytest.raises(Unmeasurable, match="quantized already"):
        LayeredOracle(str(base), "bf16").rows(folder="", rows=[[1, 2]])


def test_a_base_whose_files_hold_other_parameters_is_refused(tmp_path: Path) -> None:
    base = _base("llama", tmp_path / "base")
    tensors = load_file(base / "model.safetensors")
    del tensors["model.layers.1.mlp.up_proj.weight"]
    save_file(tensors, base / "model.safetensors")
    with pytest.raises(Unmeasurable, match=r"hold no model\.layers\.1\.mlp\.up_proj\.weight"):
        LayeredOracle(str(base), "bf16").rows(folder="", rows=[[1, 2]])
