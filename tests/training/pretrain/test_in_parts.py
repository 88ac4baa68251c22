"""A saved model is read in parts wherever its files name its parameters as it does."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from graft.training.corpus.byte_pairs import train_tokenizer
from graft.training.model.deferred import Deferred
from graft.training.model.family import FAMILIES, trainable
from graft.training.objective import catalog
from graft.training.pretrain.assembly import Assembly
from graft.training.pretrain.settings import PretrainSettings

RENAMED = {"mixtral"}
"""Their files hold the experts one by one, which the model has in one piece."""
KINDS = {name: catalog.model_class(FAMILIES[name].objectives[0]) for name in trainable()}


@pytest.mark.parametrize("family", [name for name, kind in KINDS.items() if hasattr(kind, "from_pretrained")])
def test_a_saved_model_goes_on_in_parts(family: str, tmp_path: Path) -> None:
    tokenizer = train_tokenizer(["one two three four " * 20] * 4, vocab_size=300, context_tokens=32, num_sentinels=9)
    small = {"max_length": 32, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    model = Assembly.of(PretrainSettings(family=family, **small), tokenizer).model()
    model.save_pretrained(tmp_path)  # type: ignore[operator]
    tokenizer.save_pretrained(tmp_path)
    assembly = Assembly.of(PretrainSettings(model=str(tmp_path), max_length=32), tokenizer)
    found = assembly.deferred()
    assert isinstance(found, Deferred) == (family not in RENAMED)
    for name, one in model.named_parameters():
        whole = tuple(slice(None) for _ in one.shape)
        numbers = found.read(name, whole) if isinstance(found, Deferred) else found.get_parameter(name)
        assert torch.equal(numbers, one), name
    empty = assembly.empty()
    shapes = {name: (one.shape, assembly.dtype) for name, one in model.named_parameters()}
    assert {name: (one.shape, one.dtype) for name, one in empty.named_parameters()} == shapes
