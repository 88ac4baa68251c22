"""M2: products of 8-bit integers are exact, whatever instructions the processor has."""

import torch

from graft.training.model.int8_products import product
from graft.training.model.quantized import bitsandbytes_functional


def test_products_are_exact() -> None:
    bitsandbytes_functional()
    generator = torch.Generator().manual_seed(0)
    for width in (64, 1024, 2100):
        left, right = (
            torch.randint(-127, 128, (2, 17, width), generator=generator, dtype=torch.int8) for _ in range(2)
        )
        left[0], right[0] = 127, 127
        expected = left.long() @ right[0].long().T
        assert torch.equal(product(left, right[0]).long(), expected)
        assert torch.equal(torch.ops.bitsandbytes.int8_linear_matmul.default(left, right[0]).long(), expected)
