"""The grouped LoRA update against a reference written as loops, one row at a time, in float32."""

from __future__ import annotations

import pytest
import torch

from graft.server.engine.lora_cpu import grouped
from graft.server.engine.lora_cpu.segments import group_by_slot

POPULARITY = {
    "distinct": [0, 1, 2, 3],
    "uniform": [3, 0, 1, 2, 2, 1, 0, 3, 1, 0, 3, 2],
    "identical": [2] * 9,
    "skewed": [1, 1, 1, 1, 1, 1, 1, 3, 0],
    "with rows of the base": [-1, 0, -1, 3, 3, -1, 1, -1],
    "base alone": [-1] * 5,
}


def row_by_row(y: torch.Tensor, x: torch.Tensor, a: list, b: list, slots: list[int], scale: float) -> torch.Tensor:
    out = y.clone().float()
    for row, slot in enumerate(slots):
        if slot < 0:
            continue
        start = 0
        for a_slice, b_slice in zip(a, b, strict=True):
            hidden = torch.tensor([float(x[row].float() @ weight.float()) for weight in a_slice[slot, 0]])
            for column, weight in enumerate(b_slice[slot, 0]):
                out[row, start + column] += scale * float(hidden @ weight.float())
            start += b_slice.shape[2]
    return out


@pytest.mark.parametrize("slots", POPULARITY.values(), ids=POPULARITY.keys())
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 6e-2)])
def test_equals_the_loop_reference(slots: list[int], dtype: torch.dtype, tolerance: float) -> None:
    generator = torch.Generator().manual_seed(len(slots))
    rows, inputs, rank, outputs = len(slots), 12, 4, (6, 3, 3)
    x = torch.randn(rows, inputs, generator=generator).to(dtype)
    y = torch.randn(rows, sum(outputs), generator=generator).to(dtype)
    a = [torch.randn(4, 1, rank, inputs, generator=generator).to(dtype) / 4 for _ in outputs]
    b = [torch.randn(4, 1, width, rank, generator=generator).to(dtype) / 4 for width in outputs]
    expected = row_by_row(y, x, a, b, slots, 0.5)

    before = y.clone()
    grouped.add_lora(y, x, a, b, 0.5, outputs, group_by_slot(slots))

    torch.testing.assert_close(y.float(), expected, atol=tolerance, rtol=tolerance)
    base_rows = [row for row, slot in enumerate(slots) if slot < 0]
    assert torch.equal(y[base_rows], before[base_rows])


def test_groups_are_views_where_rows_lie_together() -> None:
    contiguous, scattered = group_by_slot([0, 0, 0, 1, -1, 1])
    assert contiguous.rows == slice(0, 3)
    assert torch.is_tensor(scattered.rows)
    assert scattered.rows.tolist() == [3, 5]
