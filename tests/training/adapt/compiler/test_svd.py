"""The nearest adapter of a rank: its error is that of numpy's singular values, and is said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from graft.training.adapt.compiler.factors import Factors, nearest
from graft.training.adapt.method import Route
from graft.training.errors import ConfigurationError
from tests.training.adapt.compiler.conftest import Compile
from tests.training.adapt.compiler.making import EXACT, MERGED, updates


def tail(update: torch.Tensor, rank: int) -> float:
    """Of the best approximation (Eckart and Young): the root of the sum of the squares left out."""
    return float(np.sqrt((np.linalg.svd(update.numpy(), compute_uv=False)[rank:] ** 2).sum()))


@pytest.mark.parametrize(("name", "source"), [("dora", MERGED), ("boft", MERGED), ("loha", EXACT)])
def test_the_error_is_what_the_rank_leaves_out(
    name: str, source: dict[str, Any], compiled: Compile, tiny_base: Path
) -> None:
    made = compiled(source[name](), svd_rank=8)
    assert made.report.route is Route.SVD and made.report.rank == 8
    there, here = updates(tiny_base, made.original), updates(tiny_base, made.output)
    lost = sum(tail(one, 8) ** 2 for one in there.values())
    assert sum(float((there[path] - here[path]).norm()) ** 2 for path in there) == pytest.approx(lost, rel=1e-3)
    whole = sum(float(one.norm()) ** 2 for one in there.values())
    assert made.report.relative_error == pytest.approx((lost / whole) ** 0.5, rel=1e-3)
    assert made.report.nats > 0


def test_the_whole_rank_is_exact(compiled: Compile) -> None:
    made = compiled(MERGED["dora"](), svd_rank=512)
    assert made.report.rank == 128 and made.report.relative_error < 1e-5 and made.report.nats < 1e-4


def test_more_than_the_allowed_error_is_refused(compiled: Compile, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"off by 0\.\d+ of its norm, and --max-error is 0\.01"):
        compiled(MERGED["boft"](), svd_rank=2, max_error=0.01)
    assert [path.name for path in tmp_path.iterdir()] == ["original"]


def test_what_no_adapter_holds_is_not_left_out(compiled: Compile) -> None:
    with pytest.raises(ConfigurationError, match=r"trained as a whole or row by row.*--merge"):
        compiled(MERGED["lora with a head"](), svd_rank=8)


@pytest.mark.parametrize("shape", [(5, 9), (9, 5), (7, 7)])
def test_a_product_is_shortened_as_its_matrix_is(shape: tuple[int, int]) -> None:
    generator = torch.Generator().manual_seed(0)
    a, b = torch.randn(6, shape[1], generator=generator), torch.randn(shape[0], 6, generator=generator)
    thin = Factors.of(a, b)
    torch.testing.assert_close(thin.nearest(3).product(), nearest(thin.product(), 3).product())
