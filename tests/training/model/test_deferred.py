"""Parts of a model that nobody holds whole are the parts of the model that one process would have."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, PreTrainedModel
from transformers import PreTrainedTokenizerBase as Tokenizer

from graft.training.corpus.byte_pairs import train_tokenizer
from graft.training.model import deferred
from graft.training.model.deferred import Part, drawn
from graft.training.model.family import FAMILIES, Size, trainable
from graft.training.model.loading import load_in_parts
from graft.training.objective import catalog

SIZE = Size(width=32, num_layers=2, num_heads=4, feed_forward=64, length=32, num_kv_heads=2, num_experts=4)
CASES = [(name, objective) for name in trainable() for objective in FAMILIES[name].objectives]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_tokenizer(["one two three four five " * 20] * 4, vocab_size=300, context_tokens=32, num_sentinels=9)


@pytest.mark.parametrize(("family", "objective"), CASES)
def test_numbers_are_those_of_one_process_and_its_generator(
    family: str, objective: str, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deferred, "_KEPT", 64)

    def make() -> nn.Module:
        return catalog.build(FAMILIES[family], objective, SIZE, tokenizer)

    torch.manual_seed(7)
    expected = make()
    after = torch.get_rng_state()
    torch.manual_seed(7)
    found = drawn(make)
    assert found is not None and torch.equal(torch.get_rng_state(), after)
    named = dict(expected.named_parameters())
    assert {name for name, _ in found.model.named_parameters()} == named.keys()
    assert all(one.is_meta for one in found.model.parameters())
    for name, one in named.items():
        for part in parts(one.shape):
            assert torch.equal(found.read(name, part), one.detach()[part]), name
    assert torch.equal(torch.get_rng_state(), after)
    for (name, one), (_, other) in zip(expected.named_buffers(), found.model.named_buffers(), strict=True):
        assert torch.equal(one, other), name


def parts(shape: torch.Size) -> list[Part]:
    if not shape:
        return [()]
    half = shape[0] // 2
    rows = [(slice(0, half),), (slice(half, shape[0]),)]
    return rows if len(shape) == 1 else [*rows, (slice(0, half), slice(shape[1] // 2, shape[1]))]


def llama(*, tie: bool) -> LlamaConfig:
    return LlamaConfig(
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        vocab_size=100,
        tie_word_embeddings=tie,
    )


@pytest.mark.parametrize("tie", [True, False])
def test_saved_weights_are_read_in_parts(tie: bool, tmp_path: Path) -> None:
    model = LlamaForCausalLM(llama(tie=tie))
    model.save_pretrained(tmp_path, max_shard_size="40KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    state = torch.get_rng_state()
    found = load_in_parts(tmp_path, lambda: AutoModelForCausalLM.from_config(llama(tie=tie)))
    assert found is not None and torch.equal(torch.get_rng_state(), state)
    assert all(one.is_meta for one in found.model.parameters())
    for name, one in model.named_parameters():
        for part in parts(one.shape):
            assert torch.equal(found.read(name, part), one.detach()[part]), name
    for (name, one), (_, other) in zip(model.named_buffers(), found.model.named_buffers(), strict=True):
        assert torch.equal(one, other), name


def test_weights_under_other_names_are_not_taken_for_these(tmp_path: Path) -> None:
    model: PreTrainedModel = LlamaForCausalLM(llama(tie=False))
    state = {name.replace("model.layers", "model.blocks"): one.contiguous() for name, one in model.state_dict().items()}
    save_file(state, tmp_path / "model.safetensors")
    assert load_in_parts(tmp_path, lambda: LlamaForCausalLM(llama(tie=False))) is None


def test_what_is_made_in_a_way_that_is_not_followed_is_said() -> None:
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.left, self.right = nn.Linear(8, 8), nn.Linear(8, 8)
            with torch.no_grad():
                self.right.weight.copy_(self.left.weight)

    class Half(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = nn.Parameter(torch.empty(1024, 1024))
            with torch.no_grad():
                self.table[:5].zero_()

    assert drawn(Odd) is None and drawn(Half) is None
    assert nn.Linear(2, 2).weight.device.type == "cpu"
