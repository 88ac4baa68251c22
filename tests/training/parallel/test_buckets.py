"""What goes over the wire, and when: buckets in one process, whose sums are what it has."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn

from graft.training.loop.weights import Weights
from graft.training.parallel import buckets
from graft.training.parallel.buckets import Buckets, Reduction, cut, dealt, sum_together
from tests.training.parallel.threads import in_threads

WIDTH, NUM_LAYERS = 64, 12


@pytest.fixture
def group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dist.ProcessGroup]:
    dist.init_process_group("gloo", store=dist.FileStore(str(tmp_path / "store"), 1), rank=0, world_size=1)
    monkeypatch.setattr(buckets, "LEAST_BYTES", 4 * WIDTH * WIDTH)
    assert dist.group.WORLD is not None
    yield dist.group.WORLD
    dist.destroy_process_group()


def layers(dtype: torch.dtype = torch.float32) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(*(nn.Linear(WIDTH, WIDTH) for _ in range(NUM_LAYERS))).to(dtype)


def held(model: nn.Module, group: dist.ProcessGroup, **owners: int) -> tuple[Weights, Buckets]:
    weights = Weights(model)
    how = {name: Reduction(group, owners.get(name), group if owners else None) for name in weights.masters}
    return weights, Buckets(weights.working, weights.masters, how)


def counted(monkeypatch: pytest.MonkeyPatch, name: str, events: list[str]) -> None:
    real: Callable[..., Any] = getattr(dist, name)

    def call(*arguments: Any, **options: Any) -> Any:
        events.append(name)
        return real(*arguments, **options)

    monkeypatch.setattr(dist, name, call)


def backward(model: nn.Module, times: int = 1) -> None:
    dtype = next(model.parameters()).dtype
    for _ in range(times):
        model(torch.ones(2, WIDTH, dtype=dtype)).square().sum().backward()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_sums_begin_in_the_last_backward_pass_and_are_fewer_than_parameters(
    dtype: torch.dtype, group: dist.ProcessGroup, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, plain, events = layers(dtype), layers(dtype), list[str]()
    weights, found = held(model, group)
    counted(monkeypatch, "all_reduce", events)
    model[0].weight.register_post_accumulate_grad_hook(lambda parameter: events.append("first layer"))
    found.open()
    backward(model, times=2)
    assert events == ["first layer"] * 2  # not before the last micro-batch
    events.clear()
    found.expect(1)
    backward(model)
    found.reduce_rest()
    found.close()
    assert 1 < events.count("all_reduce") <= 9 < 2 * NUM_LAYERS
    assert events.index("first layer") > 5
    expected = Weights(plain)
    backward(plain, times=3)
    for name, master in weights.masters.items():
        assert torch.equal(master.grad, expected.masters[name].grad), name


def test_a_parameter_that_is_not_used_holds_nothing_up_and_has_no_gradient(group: dist.ProcessGroup) -> None:
    model = layers()
    weights, found = held(model, group)
    found.open()
    found.expect(1)
    (model[:-1](torch.ones(2, WIDTH)) @ model[-1].weight).sum().backward()
    found.reduce_rest()
    found.close()
    without = [name for name, one in weights.masters.items() if one.grad is None]
    assert without == [f"{NUM_LAYERS - 1}.bias"]


def test_what_was_summed_before_is_not_summed_again(group: dist.ProcessGroup) -> None:
    """Twice forward and backward before a step: with more processes the first would count as often as there are."""
    model, plain = layers(), layers()
    weights, found = held(model, group)
    reduced: list[Tensor] = []
    for number in range(2):
        found.open()
        found.expect(1)
        backward(model)
        found.reduce_rest()
        reduced.append(torch.cat([bucket.flat for bucket in found.buckets]))
        assert number == 0 or torch.equal(*reduced)
    found.close()
    backward(plain, times=2)
    for name, one in plain.named_parameters():
        assert torch.allclose(weights.masters[name].grad, one.grad), name  # type: ignore[arg-type]
    for master in weights.masters.values():
        master.grad = None
    found.open()
    assert all(not master.grad.any() for master in weights.masters.values() if master.grad is not None)


def test_an_owner_alone_has_the_sum_and_gives_what_it_moved(
    group: dist.ProcessGroup, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, events = layers(), list[str]()
    weights, found = held(model, group, **{name: 0 for name, _ in model.named_parameters()})
    for name in ("all_reduce", "reduce", "broadcast"):
        counted(monkeypatch, name, events)
    found.open()
    found.expect(1)
    backward(model)
    found.reduce_rest()
    found.close()
    found.share_updates()
    assert set(events) == {"reduce", "broadcast"} and events.count("broadcast") == len(found.buckets) < 2 * NUM_LAYERS
    assert all(master.grad is not None for master in weights.masters.values())


def test_buckets_are_full_in_the_order_of_the_backward_pass(group: dist.ProcessGroup) -> None:
    masters = dict(layers().named_parameters())
    how = Reduction(group)
    names = [name for some, _ in cut(masters, dict.fromkeys(masters, how)) for name in some]
    assert names == list(masters)[::-1]
    owners = dealt(masters, 3)
    sizes = [sum(masters[name].numel() for name in masters if owners[name] == one) for one in range(3)]
    assert max(sizes) - min(sizes) <= WIDTH * WIDTH
    among = cut(masters, {name: Reduction(group, owners[name], group) for name in masters})
    assert all({owners[name] for name in some} == {one.owner} for some, one in among)
    assert sorted(name for some, _ in among for name in some) == sorted(masters)


def test_tensors_of_any_shape_are_summed_together(group: dist.ProcessGroup, monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[str] = []
    counted(monkeypatch, "all_reduce", events)
    monkeypatch.setattr(buckets, "BUCKET_BYTES", 90)
    tensors = [torch.randn(3, 5), torch.randn(()), torch.randn(4, 2).T, torch.randn(7)]
    before = [one.clone() for one in tensors]
    sum_together(tensors, group)
    assert all(torch.equal(one, other) for one, other in zip(tensors, before, strict=True))
    assert len(events) == 2


def test_a_gradient_that_one_process_alone_has_is_everybodys(monkeypatch: pytest.MonkeyPatch) -> None:
    models = [layers() for _ in range(2)]
    monkeypatch.setattr(buckets, "LEAST_BYTES", 4 * WIDTH * WIDTH)
    plain = layers()
    backward(plain)
    backward(plain[:-2])

    def summed(rank: int) -> dict[str, Tensor | None]:
        assert dist.group.WORLD is not None
        weights, found = held(models[rank], dist.group.WORLD)
        found.open()
        found.expect(1)
        backward(models[rank] if rank == 0 else models[rank][:-2])
        found.reduce_rest()
        found.close()
        return {name: one.grad for name, one in weights.masters.items()}

    for gradients in in_threads(2, summed):
        for name, one in plain.named_parameters():
            assert gradients[name] is not None and torch.allclose(gradients[name], one.grad), name  # type: ignore[arg-type]
