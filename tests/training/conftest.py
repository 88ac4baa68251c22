"""A base small enough to train in a test, made the way the shipped one is."""

from pathlib import Path

import pytest
import torch
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from graft.training.export import write_base
from graft.training.recipes.rootstock import llama_config
from graft.training.tokenizer import build_tokenizer


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerFast:
    return build_tokenizer(256)


@pytest.fixture
def model(tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    """Random weights, two layers of width 64, float32."""
    torch.manual_seed(0)
    return LlamaForCausalLM(llama_config(tokenizer, width=64, num_layers=2)).eval()


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory: pytest.TempPathFactory, tokenizer: PreTrainedTokenizerFast) -> Path:
    """A Hugging Face folder of a random model. bitsandbytes' CPU code wants multiples of 32: 128 and 352."""
    folder = tmp_path_factory.mktemp("bases") / "seedling"
    torch.manual_seed(0)
    random_model = LlamaForCausalLM(llama_config(tokenizer, width=128, num_layers=1)).to(torch.bfloat16)
    with torch.no_grad():  # at their initial size, tied embeddings cannot express a confident answer
        random_model.model.embed_tokens.weight.mul_(10)
    write_base(random_model, tokenizer, folder, card="# seedling\n")
    return folder
