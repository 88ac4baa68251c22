"""No process holds more of a model than its part and one parameter, from the first moment on."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedModel

from graft.training.model import loading
from graft.training.model.deferred import Part, drawn
from graft.training.model.loading import load_in_parts
from graft.training.parallel.buckets import local
from graft.training.parallel.distributed import Distributed
from graft.training.parallel.filling import part_of
from graft.training.parallel.mesh import Mesh
from tests.training.parallel.threads import in_threads

Pieces = list[tuple[str, Part, Tensor]]


class Allocated(TorchDispatchMode):
    """Bytes of the storages that operations make on the CPU, now and at most."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.most = 0
        self._seen: dict[int, Any] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        for one in tree_leaves(found):
            if isinstance(one, Tensor) and not isinstance(one, DTensor) and one.device.type == "cpu":
                self._count(one.untyped_storage())
        return found

    def _count(self, storage: torch.UntypedStorage) -> None:
        key = storage._cdata
        if key not in self._seen:
            self._seen[key] = weakref.finalize(storage, self._free, key, storage.nbytes())
            self.now += storage.nbytes()
            self.most = max(self.most, self.now)

    def _free(self, key: int, size: int) -> None:
        del self._seen[key]
        self.now -= size


def model_of(tie: bool = False) -> PreTrainedModel:
    torch.manual_seed(0)
    config = LlamaConfig(
        hidden_size=128,
        num_hidden_layers=8,
        num_attention_heads=4,
        num_key_value_heads=4,
        intermediate_size=512,
        vocab_size=2001,
        tie_word_embeddings=tie,
    )
    model: PreTrainedModel = AutoModelForCausalLM.from_config(config)
    return model


def test_what_is_counted_is_what_a_whole_model_takes() -> None:
    with Allocated() as allocated:
        model = model_of()
    size = sum(one.nbytes for one in model.parameters())
    assert size <= allocated.now <= 1.01 * size


@pytest.mark.parametrize(
    ("mesh", "share", "tie"),
    [
        (Mesh(dp_shard=4), 1 / 4, False),
        (Mesh(dp_shard=2, tp=2), 1 / 4, False),
        (Mesh(dp_shard=2, tp=2), 1 / 4, True),
        (Mesh(tp=4), 1 / 4, False),
        (Mesh(pp=2, dp_shard=2), 0.26, False),
        (Mesh(dp_replicate=2, dp_shard=2, zero_stage=2), 1 / 2, True),
    ],
)
def test_a_process_holds_its_share_and_one_parameter_at_most(mesh: Mesh, share: float, tie: bool) -> None:
    whole = model_of(tie)
    expected = {name: one.detach() for name, one in whole.named_parameters()}
    size, largest = (how(one.nbytes for one in whole.parameters()) for how in (sum, max))
    one_at_a_time = threading.Lock()  # torch's generator is all threads'

    def place(rank: int) -> tuple[int, int, Pieces]:
        layout = Distributed(mesh)
        with one_at_a_time, Allocated() as allocated:
            made = drawn(lambda: model_of(tie))
            assert made is not None
            drawing = allocated.most
            model = layout.place(made, torch.float32)
        return drawing, allocated.most, places(model)

    found = in_threads(4, place)
    for drawing, most, _ in found:
        assert drawing <= 2.1 * largest
        assert most <= 1.02 * size * share + 2.1 * largest < 0.75 * size
    assert_whole([pieces for _, _, pieces in found], expected)


def test_of_a_saved_model_a_process_reads_its_parts_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, read = model_of(), dict[int, int]()
    whole.save_pretrained(tmp_path, max_shard_size="1MB")
    expected = {name: one.detach() for name, one in whole.named_parameters()}
    real = loading._read

    def counted(path: Path, name: str, part: Part) -> Tensor:
        found = real(path, name, part)
        read[threading.get_ident()] = read.get(threading.get_ident(), 0) + found.nbytes
        return found

    monkeypatch.setattr(loading, "_read", counted)
    one_at_a_time = threading.Lock()  # a module's registration of parameters is all threads'

    def place(rank: int) -> tuple[int, Pieces]:
        layout = Distributed(Mesh(dp_shard=2, tp=2))
        with one_at_a_time:
            made = load_in_parts(tmp_path, lambda: AutoModelForCausalLM.from_config(whole.config))
            assert made is not None
            model = layout.place(made, torch.float32)
        return read[threading.get_ident()], places(model)

    found = in_threads(4, place)
    for num_read, pieces in found:
        assert num_read == sum(numbers.nbytes for _, _, numbers in pieces)
        assert num_read < 0.26 * sum(one.nbytes for one in whole.parameters())
    assert_whole([pieces for _, pieces in found], expected)


def places(model: nn.Module) -> Pieces:
    """Where in the whole parameters what is here lies."""
    return [(name, part_of(one), local(one)) for name, one in model.named_parameters()]


def assert_whole(pieces: Iterable[Pieces], expected: Mapping[str, Tensor]) -> None:
    """All processes' pieces make the model."""
    found = {name: torch.full_like(one, torch.nan) for name, one in expected.items()}
    for own in pieces:
        for name, part, numbers in own:
            found[name][part] = numbers
    for name, one in expected.items():
        assert torch.equal(found[name], one), name
