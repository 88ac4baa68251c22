"""Adapters of every method on a tiny base, as peft saves them, with numbers as if they had been trained."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import peft
import torch
from peft import PeftConfig, PeftModel, get_peft_model
from torch import Tensor
from transformers import AutoModelForCausalLM, PreTrainedModel

TARGETS = ["q_proj", "down_proj"]
"""One layer that is square and one that is wide."""

EXACT: dict[str, Any] = {
    "lora": lambda: peft.LoraConfig(r=4, lora_alpha=6, target_modules=TARGETS, lora_dropout=0.1),
    "rslora": lambda: peft.LoraConfig(r=4, lora_alpha=6, target_modules=TARGETS, use_rslora=True),
    "patterns": lambda: peft.LoraConfig(
        r=4, lora_alpha=6, target_modules="all-linear", rank_pattern={"q_proj": 2, "mlp.down_proj": 7},
        alpha_pattern={"down_proj": 1, "^model.layers.0.self_attn.o_proj": 9},
    ),
    "adalora": lambda: peft.AdaLoraConfig(init_r=6, target_r=4, lora_alpha=12, target_modules=TARGETS, total_step=10),
    "loha": lambda: peft.LoHaConfig(r=4, alpha=6, target_modules=TARGETS),
    "loha, longer than its layer": lambda: peft.LoHaConfig(r=12, alpha=6, target_modules=TARGETS),
    "lokr": lambda: peft.LoKrConfig(r=4, alpha=6, target_modules=TARGETS),
    "lokr, both parts": lambda: peft.LoKrConfig(
        r=2, alpha=6, target_modules=TARGETS, decompose_both=True, decompose_factor=8
    ),
    "lokr, whole": lambda: peft.LoKrConfig(r=64, alpha=6, target_modules=TARGETS),
    "vera": lambda: peft.VeraConfig(r=16, target_modules=TARGETS, d_initial=0.3),
    "vera, without its projection": lambda: peft.VeraConfig(r=16, target_modules=TARGETS, save_projection=False),
    "vblora": lambda: peft.VBLoRAConfig(r=4, num_vectors=8, vector_length=16, target_modules=TARGETS),
    "mica": lambda: peft.LoraConfig(r=4, lora_alpha=6, target_modules=TARGETS, init_lora_weights="mica"),
}  # fmt: skip
LESSENING: dict[str, Any] = {
    "pissa": lambda: peft.LoraConfig(r=4, lora_alpha=6, target_modules=TARGETS, init_lora_weights="pissa"),
    "olora": lambda: peft.LoraConfig(r=4, lora_alpha=6, target_modules=TARGETS, init_lora_weights="olora"),
}
MERGED: dict[str, Any] = {
    "dora": lambda: peft.LoraConfig(r=4, lora_alpha=6, target_modules=TARGETS, use_dora=True),
    "ia3": lambda: peft.IA3Config(target_modules=TARGETS, feedforward_modules=["down_proj"]),
    "oft": lambda: peft.OFTConfig(oft_block_size=32, r=0, target_modules=TARGETS),
    "boft": lambda: peft.BOFTConfig(boft_block_size=8, target_modules=TARGETS),
    "miss": lambda: peft.MissConfig(r=4, target_modules=TARGETS),
    "norms": lambda: peft.LNTuningConfig(target_modules=["input_layernorm", "norm"]),
    "tokens": lambda: peft.TrainableTokensConfig(token_indices=[3, 5, 9]),
    "lora with tokens": lambda: peft.LoraConfig(r=4, target_modules=TARGETS, trainable_token_indices=[3, 5]),
    "lora with a head": lambda: peft.LoraConfig(r=4, target_modules=TARGETS, modules_to_save=["lm_head"]),
    "lora of the embedding": lambda: peft.LoraConfig(r=4, target_modules=["embed_tokens", "q_proj"]),
}


def plain(base: Path) -> PreTrainedModel:
    model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32, local_files_only=True)
    return model.eval()


@torch.no_grad()
def trained(
    base: Path, config: PeftConfig, folder: Path, *, initial: Path | None = None, strength: float = 1.0
) -> Path:
    """A PEFT folder whose every trained number was moved; ``initial`` gets the adapter before that."""
    torch.manual_seed(0)
    config.task_type = "CAUSAL_LM"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = get_peft_model(plain(base), config)
        if initial is not None:
            kind, config.init_lora_weights = config.init_lora_weights, True  # as peft's users are told to save it
            model.save_pretrained(initial)
            config.init_lora_weights = kind
        generator = torch.Generator().manual_seed(1)
        for parameter in model.parameters():
            if parameter.requires_grad:
                scale = strength * max(0.1 * float(parameter.abs().mean()), 0.02)
                parameter += scale * torch.randn(parameter.shape, generator=generator)
        model.save_pretrained(folder)
    return folder


def by_peft(base: Path, folder: Path) -> PeftModel:
    """As anybody would load it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return PeftModel.from_pretrained(plain(base), folder).eval()


@torch.no_grad()
def updates(base: Path, folder: Path) -> dict[str, Tensor]:
    """By name what peft's merge changes of the base, in float64."""
    before = {name: one.double() for name, one in plain(base).named_parameters()}
    model = by_peft(base, folder)
    after = dict(model.double().merge_and_unload().named_parameters())
    found = {name: after[name] - one for name, one in before.items()}
    return {name: one for name, one in found.items() if one.any()}


@torch.no_grad()
def logits(model: torch.nn.Module) -> Tensor:
    return model(input_ids=torch.tensor([[3, 5, 9, 40, 7, 3, 21, 80]])).logits[0]
