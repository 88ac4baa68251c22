"""A model in bfloat16 knows places as one in float32 does."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from graft.training.model.casting import cast
from graft.training.model.deferred import without_numbers
from graft.training.model.loading import load_in_parts
from graft.training.parallel.filling import fill

FAR = torch.cat((torch.arange(8), torch.arange(30_000, 30_008)))[None]
"""Angles at distances of 30,000 places, at which a rounded frequency is off by whole turns."""
FAMILIES: Mapping[str, Mapping[str, Any]] = {
    "llama": {},
    "qwen3": {"head_dim": 8},
    "gpt_neox": {},
    "gemma3_text": {"head_dim": 8, "sliding_window": 64_000},
    "phi3": {"pad_token_id": 0},
}


def model_of(kind: str) -> PreTrainedModel:
    torch.manual_seed(0)
    config = AutoConfig.for_model(
        kind,
        vocab_size=64,
        hidden_size=32,
        num_hidden_layers=6,  # Gemma 3 has two kinds among so many
        num_attention_heads=4,
        num_key_value_heads=4,
        intermediate_size=64,
        max_position_embeddings=32_768,
        **FAMILIES[kind],
    )
    model: PreTrainedModel = AutoModelForCausalLM.from_config(config)
    with torch.no_grad():  # attention that looks at some tokens more than at others
        for name, one in model.named_parameters():
            if one.ndim == 2 and "layers" in name:
                one.mul_(16)
    return model


def logits(model: PreTrainedModel) -> Tensor:
    ids = torch.randint(64, FAR.shape, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        found: Tensor = model.eval()(input_ids=ids, position_ids=FAR, use_cache=False).logits
    return found


def whole(kind: str, folder: Path) -> PreTrainedModel:
    return cast(model_of(kind), torch.bfloat16)


def read_in_parts(kind: str, folder: Path) -> PreTrainedModel:
    made = load_in_parts(folder, lambda: AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder)))
    assert made is not None
    fill(made.model, made.read, device="cpu", dtype=torch.bfloat16)
    model: Any = made.model
    return model  # type: ignore[no-any-return]


def without_its_numbers(kind: str, folder: Path) -> PreTrainedModel:
    model: Any = without_numbers(lambda: AutoModelForCausalLM.from_config(model_of(kind).config), torch.bfloat16)
    model.load_state_dict(model_of(kind).state_dict(), strict=False)
    return model  # type: ignore[no-any-return]


@pytest.mark.parametrize("make", [whole, read_in_parts, without_its_numbers])
@pytest.mark.parametrize("kind", FAMILIES)
def test_it_says_what_hugging_face_s_says(
    kind: str, make: Callable[[str, Path], PreTrainedModel], tmp_path: Path
) -> None:
    """``from_pretrained`` leaves frequencies in float32."""
    model_of(kind).save_pretrained(tmp_path)
    expected = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.bfloat16)
    found = make(kind, tmp_path)
    types = {name: one.dtype for name, one in expected.named_buffers()}
    assert {name: one.dtype for name, one in found.named_buffers()} == types
    assert torch.float32 in types.values()
    assert torch.equal(logits(found), logits(expected))


def test_rounded_frequencies_would_be_other_places() -> None:
    """Cosines and sines of angles, which are off by more than a half of all that they can be."""
    exact, rounded, found = (
        torch.stack(made.base_model.rotary_emb(torch.zeros(1, dtype=torch.float64), FAR))
        for made in (model_of("llama"), model_of("llama").bfloat16(), cast(model_of("llama"), torch.bfloat16))
    )
    assert torch.equal(found, exact) and (rounded - exact).abs().max() > 1


def test_a_device_may_be_named_and_numbers_of_no_fraction_stay() -> None:
    model = model_of("llama")
    model.register_buffer("places", torch.arange(4))
    moved = cast(model, torch.bfloat16, "meta")
    assert moved is model and all(one.is_meta for one in (*model.parameters(), *model.buffers()))
    assert model.get_buffer("places").dtype == torch.int64
    assert {one.dtype for one in model.parameters()} == {torch.bfloat16}
