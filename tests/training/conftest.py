"""A base small enough to train in a test, made the way the shipped one is."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from graft.training.job.export import write_base
from graft.training.rootstock.recipe import llama_config
from graft.training.rootstock.tokenizer import build_tokenizer


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
    """A Hugging Face folder of a random model, its widths multiples of 64 as bitsandbytes' CPU code demands."""
    folder = tmp_path_factory.mktemp("bases") / "seedling"
    torch.manual_seed(0)
    config = llama_config(tokenizer, width=128, num_layers=1)
    config.intermediate_size = 320
    random_model = LlamaForCausalLM(config).to(torch.bfloat16)
    write_base(random_model, tokenizer, folder, card="# seedling\n")
    return folder


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """The threads of a model this small mostly wait for each other, above all on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
