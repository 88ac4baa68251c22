"""Where the system gives no pinned memory, ordinary memory serves, and it is said once."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NoReturn

import pytest
import torch
from torch import Tensor

from graft.training.batch.packing import Encoded, batch_of_rows
from graft.training.parallel.layout import pinned
from graft.training.runtime.pinned import pinned_room, say_unpinned


@pytest.fixture
def full(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A system that locks no more pages, as CUDA says so."""
    real = torch.empty_like

    def refuse(*_: Any, **__: Any) -> NoReturn:
        raise RuntimeError("CUDA error: out of memory")

    def empty_like(tensor: Tensor, *, pin_memory: bool = False, **options: Any) -> Tensor:
        return refuse() if pin_memory else real(tensor, **options)

    monkeypatch.setattr(Tensor, "pin_memory", refuse)
    monkeypatch.setattr(torch, "empty_like", empty_like)
    say_unpinned.cache_clear()
    yield
    say_unpinned.cache_clear()


@pytest.mark.usefixtures("full")
def test_ordinary_memory_serves_and_it_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    batch = batch_of_rows([[Encoded(input_ids=[3, 4, 5], supervised=[True] * 3)]], length=4, pad_id=0)
    for _ in range(2):
        assert torch.equal(pinned(batch).input_ids_BL, batch.input_ids_BL)
        room = pinned_room(torch.zeros(3, 4, dtype=torch.bfloat16))
        assert (room.shape, room.dtype, room.device.type) == ((3, 4), torch.bfloat16, "cpu")
    (said,) = caplog.messages
    assert "ordinary memory" in said and "ulimit -l" in said
