"""What the table says of an architecture, held against Hugging Face's classes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import (
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForSeq2SeqLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from graft.training.corpus.byte_pairs import train_tokenizer
from graft.training.errors import ConfigurationError
from graft.training.model.configuration import configuration
from graft.training.model.family import FAMILIES, Size, family, family_of
from graft.training.objective.masks import reaches

KINDS: dict[str, Any] = {
    "decoder": AutoModelForCausalLM,
    "encoder": AutoModelForMaskedLM,
    "encoder-decoder": AutoModelForSeq2SeqLM,
}
SIZE = Size(width=32, num_layers=2, num_heads=4, feed_forward=64, length=16, num_kv_heads=2, num_experts=4, window=4)


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return train_tokenizer(["a text"] * 3, vocab_size=300, context_tokens=16)


def made(name: str, tokenizer: PreTrainedTokenizerFast, size: Size = SIZE) -> PreTrainedModel:
    row = FAMILIES[name]
    model: PreTrainedModel = KINDS[row.kind].from_config(configuration(row, size, tokenizer))
    return model.eval()


@pytest.mark.parametrize("name", [name for name, row in FAMILIES.items() if row.ends_in_its_head])
@torch.no_grad()
def test_logits_are_what_the_head_gives(name: str, tokenizer: PreTrainedTokenizerFast) -> None:
    model, given = made(name, tokenizer), []
    for parameter in model.parameters():
        parameter.add_(0.1)  # no bias or scale is what it begins as
    model.get_output_embeddings().register_forward_hook(lambda _, inputs, output: given.append(output))
    ids = torch.arange(5, 11)[None]
    decoder: dict[str, Tensor] = {"decoder_input_ids": ids} if FAMILIES[name].kind == "encoder-decoder" else {}
    assert torch.equal(model(input_ids=ids, **decoder).logits, *given)


@pytest.mark.parametrize("name", FAMILIES)
def test_what_a_row_names_is_in_the_model(name: str, tokenizer: PreTrainedTokenizerFast) -> None:
    row, model = FAMILIES[name], made(name, tokenizer)
    routers = [one for one in model.modules() if type(one).__name__ == row.router]
    assert len(routers) == (SIZE.num_layers if hasattr(model.config, "num_local_experts") else 0)
    names = [parameter for parameter, _ in model.named_parameters()]
    assert row.shared_layers is None or any(row.shared_layers in one for one in names)
    if row.kind == "decoder":
        windows = [reaches(made(name, tokenizer, replace(SIZE, window=window))) for window in (4, 8)]
        assert (windows[0] != windows[1]) == row.takes_window
    if row.is_splittable:
        assert model.config.base_model_tp_plan
        assert isinstance(model.base_model.layers, nn.ModuleList) and model.base_model.rotary_emb is not None
        assert "norm" in type(model.base_model.get_submodule(row.final_norm)).__name__.lower()


def test_what_is_only_adapted_is_not_trained_from_nothing(tokenizer: PreTrainedTokenizerFast) -> None:
    with pytest.raises(ConfigurationError, match="unknown family 'qwen2'; the families are gpt2, llama"):
        family("qwen2")
    with pytest.raises(ConfigurationError, match="a model of the type 'qwen2' cannot be trained"):
        family_of(made("qwen2", tokenizer).config)
