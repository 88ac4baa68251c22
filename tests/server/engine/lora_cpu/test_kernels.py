"""The LoRA kernels against a reference written as loops, one row at a time, in float32."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch

from graft.server.engine.lora_cpu import choice
from graft.server.engine.lora_cpu.compiled import CompiledKernel
from graft.server.engine.lora_cpu.grouped import GroupedKernel
from graft.server.engine.lora_cpu.kernel import Kernel
from graft.server.engine.lora_cpu.segments import Segments
from graft.server.engine.lora_cpu.slot_weights import SlotWeights
from graft.server.engine.native.instruction_sets import NAMES, supported
from graft.server.engine.native.libraries import PREBUILT

POPULARITY = {
    "distinct": [0, 1, 2, 3],
    "uniform": [3, 0, 1, 2, 2, 1, 0, 3, 1, 0, 3, 2],
    "identical": [2] * 37,
    "skewed": [1, 1, 1, 1, 1, 1, 1, 3, 0],
    "with rows of the base": [-1, 0, -1, 3, 3, -1, 1, -1],
    "base alone": [-1] * 5,
    "a long prompt beside others": [1] * 300 + [0, -1, 2, 3],
}
RANKS = (1, 8, 16, 64)
SHAPES = {"aligned": (64, (64, 32, 32)), "ragged": (77, (45, 5)), "wide": (576, (576, 192, 192))}


@pytest.fixture(scope="module", params=["torch", *NAMES])
def kernel(request: pytest.FixtureRequest) -> Kernel:
    if request.param == "torch":
        return GroupedKernel()
    if request.param not in [each.name for each in supported()]:
        pytest.skip(f"this processor has no {request.param}")
    return CompiledKernel(PREBUILT / f"lora-{request.param}.so")


def filled(inputs: int, outputs: Sequence[int], dtype: torch.dtype, generator: torch.Generator) -> SlotWeights:
    """Four slots of ranks 1, 8, 16 and 64; memory behind the true rank holds what an adapter before left there."""

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator).to(dtype)

    weights = SlotWeights(
        [100 * random(len(RANKS), 64, inputs) for _ in outputs], [100 * random(len(RANKS), 64, out) for out in outputs]
    )
    for slot, rank in enumerate(RANKS):
        pairs = [(random(rank, inputs) / inputs**0.5, random(out, rank) / rank**0.5) for out in outputs]
        # The first slot leaves the last slice alone.
        weights.put(slot, [*pairs[:-1], None if slot == 0 else pairs[-1]])
    return weights


def row_by_row(y: torch.Tensor, x: torch.Tensor, weights: SlotWeights, slots: Sequence[int]) -> torch.Tensor:
    out = y.clone().float()
    for row, slot in enumerate(slots):
        start = 0
        for index, width in enumerate(weights.outs):
            rank = int(weights.ranks[index, slot]) if slot >= 0 else 0
            for k in range(rank):
                hidden = float(x[row].float() @ weights.a[index][slot, k].float())
                out[row, start : start + width] += hidden * weights.b[index][slot, k].float()
            start += width
    return out


@pytest.mark.parametrize("slots", POPULARITY.values(), ids=POPULARITY.keys())
@pytest.mark.parametrize(("inputs", "outputs"), SHAPES.values(), ids=SHAPES.keys())
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-4), (torch.bfloat16, 6e-2)])
def test_equals_the_loop_reference(
    kernel: Kernel, slots: list[int], inputs: int, outputs: tuple[int, ...], dtype: torch.dtype, tolerance: float
) -> None:
    generator = torch.Generator().manual_seed(len(slots))
    weights = filled(inputs, outputs, dtype, generator)
    x = torch.randn(len(slots), inputs, generator=generator).to(dtype)
    y = torch.randn(len(slots), sum(outputs), generator=generator).to(dtype)
    expected = row_by_row(y, x, weights, slots)

    before = y.clone()
    kernel.begin_step(Segments(slots))
    kernel.bind(weights)(x, y)

    torch.testing.assert_close(y.float(), expected, atol=tolerance, rtol=tolerance)
    base_rows = [row for row, slot in enumerate(slots) if slot < 0]
    assert torch.equal(y[base_rows], before[base_rows])


def test_an_emptied_slot_changes_nothing(kernel: Kernel) -> None:
    weights = filled(64, (64,), torch.float32, torch.Generator().manual_seed(1))
    weights.clear(3)
    x, y = torch.randn(5, 64), torch.zeros(5, 64)
    kernel.begin_step(Segments([3] * 5))
    kernel.bind(weights)(x, y)
    assert not y.any()
    assert not weights.touched(3)
    assert weights.touched(2)


def test_rows_that_do_not_lie_side_by_side(kernel: Kernel) -> None:
    generator = torch.Generator().manual_seed(2)
    weights = filled(64, (32, 32), torch.float32, generator)
    x, y = torch.randn(6, 96, generator=generator)[:, :64], torch.zeros(6, 80)[:, :64]
    expected = row_by_row(y, x, weights, [1, 2, 1, -1, 2, 1])
    kernel.begin_step(Segments([1, 2, 1, -1, 2, 1]))
    kernel.bind(weights)(x, y)
    torch.testing.assert_close(y, expected, atol=1e-4, rtol=1e-4)


def test_a_batch_smaller_than_its_step_is_an_error(kernel: Kernel) -> None:
    weights = filled(64, (64,), torch.float32, torch.Generator().manual_seed(3))
    kernel.begin_step(Segments([0] * 4))
    with pytest.raises(RuntimeError, match="3 rows for a step of 4"):
        kernel.bind(weights)(torch.zeros(3, 64), torch.zeros(3, 64))


def test_weights_that_do_not_fit_are_refused() -> None:
    weights = filled(64, (64,), torch.float32, torch.Generator().manual_seed(4))
    with pytest.raises(ValueError, match="do not fit a module of 64 inputs, 64 outputs and rank 64"):
        weights.put(0, [(torch.zeros(65, 64), torch.zeros(64, 65))])


def test_segments_group_rows_by_slot() -> None:
    segments = Segments([2, -1, 0, 2, 0, -1])
    assert segments.rows.tolist() == [2, 4, 0, 3]
    assert segments.slots.tolist() == [0, 2]
    assert segments.starts.tolist() == [0, 2, 4]
    assert segments.num_rows == 6
    assert len(Segments([-1, -1])) == 0


def test_the_best_that_this_processor_has_is_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    library = choice.choose("auto")
    assert library == choice.choose("compiled")
    monkeypatch.setenv(choice.VARIABLE, str(library))
    assert choice.chosen_kernel().name == f"compiled ({supported()[0].name})"
    for each in supported():
        monkeypatch.setenv(choice.VARIABLE, str(choice.choose(each.name)))
        assert choice.chosen_kernel().name == f"compiled ({each.name})"


def test_on_another_processor_the_choice_is_torch(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(choice, "supported", tuple)
    monkeypatch.setattr(choice, "processor_flags", lambda: frozenset({"avx", "sse4_2"}))
    assert choice.choose("auto") is None
    assert "needs any of avx512-bf16, avx512, avx2; this processor has avx" in caplog.text
    with pytest.raises(choice.KernelUnavailable, match="needs avx2; this processor has avx"):
        choice.choose("avx2")
    monkeypatch.setenv(choice.VARIABLE, "")
    assert choice.chosen_kernel().name == "torch"
