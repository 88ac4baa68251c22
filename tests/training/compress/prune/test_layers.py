"""One layer: what is made of it, against the papers in slow code."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from graft.training.compress.columns import output_error
from graft.training.compress.prune.scored import magnitude, wanda
from graft.training.compress.prune.sparsegpt import sparsegpt
from graft.training.compress.prune.sparsity import Sparsity
from graft.training.errors import ConfigurationError
from tests.training.compress.prune.reference import exact_weights, output_square, slow_sparsegpt

HALF, TWO_OF_FOUR = Sparsity.anywhere(0.5), Sparsity.pattern("2:4")


def layer(outputs: int = 48, inputs: int = 320, tokens: int = 2000, seed: int = 0) -> tuple[Tensor, Tensor]:
    """A weight and its inputs, correlated and of unequal size as in trained nets. Shapes: (O, I), (tokens, I)."""
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(inputs, inputs, generator=generator) / inputs**0.5
    sizes = torch.linspace(0.1, 3, inputs)[torch.randperm(inputs, generator=generator)]
    features = torch.randn(tokens, inputs, generator=generator) @ mixing * sizes
    return torch.randn(outputs, inputs, generator=generator), features


@pytest.mark.parametrize(
    ("sparsity", "share", "group"),
    [
        (HALF, 0.5, None),
        (Sparsity.anywhere(0.3), 0.3, None),
        (Sparsity.anywhere(0.8), 0.8, None),
        (TWO_OF_FOUR, 0.5, 4),
        (Sparsity.pattern("1:4"), 0.75, 4),
        (Sparsity.pattern("4:8"), 0.5, 8),
    ],
    ids=str,
)
def test_sparsegpt_errs_as_the_paper_written_out(sparsity: Sparsity, share: float, group: int | None) -> None:
    weight, inputs = layer()
    found = sparsegpt(weight, inputs.T @ inputs, sparsity)
    expected = slow_sparsegpt(weight, inputs.T @ inputs, share, group)
    assert output_square(weight, found, inputs) == pytest.approx(output_square(weight, expected, inputs), rel=1e-3)
    assert float((found - expected).abs().max()) < 1e-2  # one choice among equals may differ
    assert float(((found == 0) == (expected == 0)).float().mean()) > 0.999


@pytest.mark.parametrize("sparsity", [HALF, TWO_OF_FOUR], ids=str)
def test_on_unseen_inputs_sparsegpt_errs_least_and_magnitude_most(sparsity: Sparsity) -> None:
    weight, inputs = layer(tokens=4000)
    hessian, unseen = inputs[:2000].T @ inputs[:2000], inputs[2000:]
    made = [
        sparsegpt(weight, hessian, sparsity), wanda(weight, hessian, sparsity), magnitude(weight, sparsity)
    ]  # fmt: skip
    errors = [output_square(weight, one, unseen) for one in made]
    assert errors[0] < 0.8 * errors[1] and errors[1] < 0.8 * errors[2]


def test_sparsegpt_is_near_the_least_squares_of_its_own_zeros() -> None:
    """No choice of the kept weights errs less than each row's least squares; only moving weights to the right costs a
    little (section 3.2), while leaving them where they were costs much more.
    """
    weight, inputs = layer(outputs=8, inputs=128)
    found = sparsegpt(weight, inputs.T @ inputs, HALF)
    best = output_square(weight, exact_weights(weight, inputs.T @ inputs, found == 0), inputs)
    own, still = (output_square(weight, one, inputs) for one in (found, weight.masked_fill(found == 0, 0)))
    assert best * (1 - 1e-6) <= own < 2 * best
    assert own < 0.8 * still


def test_wanda_is_the_product_of_weight_and_norm_in_every_row() -> None:
    weight, inputs = layer(outputs=8, inputs=64)
    found = wanda(weight, inputs.T @ inputs, HALF)
    for row in range(8):
        scores = [abs(float(weight[row, i])) * float(inputs[:, i].norm()) for i in range(64)]
        lowest = sorted(range(64), key=lambda i: scores[i])[:32]
        assert {i for i in range(64) if found[row, i] == 0} == set(lowest)
    kept = found != 0
    assert torch.equal(found[kept], weight[kept])


def test_magnitude_takes_the_smallest_of_the_layer() -> None:
    weight, _ = layer(outputs=8, inputs=64)
    found = magnitude(weight, Sparsity.anywhere(0.25))
    assert int((found == 0).sum()) == 128
    assert float(weight[found == 0].abs().max()) < float(found[found != 0].abs().min())
    assert torch.equal(found[found != 0], weight[found != 0])


@pytest.mark.parametrize("pattern", ["2:4", "1:4", "3:4", "4:8", "1:2"])
def test_every_group_has_its_zeros(pattern: str) -> None:
    stay, group = map(int, pattern.split(":"))
    weight, inputs = layer(outputs=8, inputs=192)
    sparsity, hessian = Sparsity.pattern(pattern), inputs.T @ inputs
    assert str(sparsity) == pattern
    for made in (
        sparsegpt(weight, hessian, sparsity), wanda(weight, hessian, sparsity), magnitude(weight, sparsity)
    ):  # fmt: skip
        assert bool(((made.reshape(-1, group) != 0).sum(1) == stay).all())


@pytest.mark.parametrize("share", [0.1, 0.3, 0.5, 0.7, 0.9])
def test_the_share_is_kept_to_a_weight_of_each_block(share: float) -> None:
    weight, inputs = layer(outputs=10, inputs=200)
    sparsity, hessian = Sparsity.anywhere(share), inputs.T @ inputs
    for made, most in (
        (sparsegpt(weight, hessian, sparsity), 2),  # blocks
        (wanda(weight, hessian, sparsity), 10),  # rows
        (magnitude(weight, sparsity), 1),
    ):
        assert 0 <= share * 2000 - int((made == 0).sum()) + 1e-6 < most


@pytest.mark.parametrize("hessian", [torch.zeros(64, 64), torch.ones(64, 64)], ids=["unseen", "alike"])
def test_inputs_never_seen_or_always_the_same_are_survived(hessian: Tensor) -> None:
    weight, _ = layer(outputs=8, inputs=64)
    found = sparsegpt(weight, hessian, HALF)
    assert found.isfinite().all() and int((found == 0).sum()) == 256


def test_the_error_told_is_that_of_the_outputs() -> None:
    weight, inputs = layer(outputs=8, inputs=64)
    made = magnitude(weight, HALF)
    whole = float((weight @ inputs.T).square().sum())
    expected = output_square(weight, made, inputs) / whole
    assert output_error(weight, made, inputs.T @ inputs) == pytest.approx(expected, rel=1e-4)
    assert output_error(weight, made, torch.zeros(64, 64)) == 0


@pytest.mark.parametrize("share", [0.0, 1.0, -0.5, 1.5, float("nan"), float("inf")])
def test_a_share_outside_is_refused(share: float) -> None:
    with pytest.raises(ConfigurationError, match=r"--sparsity .*above 0 and below 1"):
        Sparsity.anywhere(share)


@pytest.mark.parametrize("text", ["2", "4:2", "4:4", "0:4", "2:3", "a:b", "2:4:8", " 2:4", "2:256", "-1:4", "٢:٤"])
def test_a_pattern_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError, match=r"--pattern .*such as 2:4"):
        Sparsity.pattern(text)


def test_a_width_that_the_pattern_does_not_divide_is_named() -> None:
    with pytest.raises(ConfigurationError, match=r"2:4: b has 6 inputs, which 4 does not divide \(2 such layers\)"):
        TWO_OF_FOUR.check({"a": (3, 8), "b": (8, 6), "c": (8, 10)})
    HALF.check({"b": (8, 6)})
