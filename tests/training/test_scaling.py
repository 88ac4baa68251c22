"""Laws are found again in points that they made, and what is published is reproduced."""

from __future__ import annotations

import math
from random import Random

import pytest

from graft.training.errors import DataError
from graft.training.scaling.fit import fit, fit_chinchilla, fit_kaplan
from graft.training.scaling.laws import PUBLISHED, Chinchilla, Kaplan, Point

SIZES = [1e5 * 2**k for k in range(4)]
AMOUNTS = [1e6 * 2**k for k in range(4)]


def points(law: Chinchilla | Kaplan, noise: float = 0.0) -> list[Point]:
    rng = Random(0)
    return [
        Point(parameters=n, tokens=d, loss=law.loss(n, d) * math.exp(noise * rng.gauss(0, 1)))
        for n in SIZES
        for d in AMOUNTS
    ]


def test_a_law_is_found_again() -> None:
    law = Chinchilla(e=1.5, a=200.0, b=900.0, alpha=0.4, beta=0.35)
    found = fit_chinchilla(points(law))
    assert found.loss(1e6, 3e7) == pytest.approx(law.loss(1e6, 3e7), rel=2e-3)
    assert found.alpha == pytest.approx(0.4, abs=0.03) and found.beta == pytest.approx(0.35, abs=0.03)
    kaplan = Kaplan(n_c=1e9, d_c=1e10, alpha_n=0.12, alpha_d=0.2)
    again = fit_kaplan(points(kaplan))
    assert again.loss(1e6, 3e7) == pytest.approx(kaplan.loss(1e6, 3e7), rel=2e-3)


def test_noise_widens_the_intervals_around_the_truth() -> None:
    law = Chinchilla(e=1.5, a=200.0, b=900.0, alpha=0.4, beta=0.35)
    found = fit(points(law, noise=0.003), num_resamples=20)
    assert found.intervals["alpha"].low < 0.4 < found.intervals["alpha"].high
    assert found.chinchilla.loss(2e6, 2e7) == pytest.approx(law.loss(2e6, 2e7), rel=0.02)


@pytest.mark.parametrize("name", list(PUBLISHED))
def test_the_optimum_is_the_least_loss_of_its_budget(name: str) -> None:
    law, flops = PUBLISHED[name], 1e21
    parameters, tokens = law.optimum(flops)
    assert 6 * parameters * tokens == pytest.approx(flops)
    for factor in (0.8, 0.95, 1.05, 1.25):
        other = parameters * factor
        assert law.loss(parameters, tokens) < law.loss(other, flops / 6 / other)


def test_published_optima() -> None:
    """Kaplan's share of C for N is larger; Chinchilla's own model of 70B parameters saw 1.4T tokens (5.76e23 FLOPs)."""
    kaplan, chinchilla = PUBLISHED["kaplan"], PUBLISHED["besiroglu"]
    growth = math.log(kaplan.optimum(1e23)[0] / kaplan.optimum(1e22)[0], 10)
    assert growth == pytest.approx(0.575, abs=0.02)  # without the batch-size term that makes it 0.73
    parameters, tokens = chinchilla.optimum(5.76e23)
    assert 50e9 < parameters < 90e9 and 1.0e12 < tokens < 1.9e12


def test_too_few_points_are_refused() -> None:
    law = PUBLISHED["chinchilla"]
    with pytest.raises(DataError, match="5 trainings are too few"):
        fit(points(law)[:5])
    one_size = [Point(parameters=1e6, tokens=d, loss=law.loss(1e6, d)) for d in range(1, 8)]
    with pytest.raises(DataError, match="fewer than three different numbers of parameters"):
        fit(one_size)
