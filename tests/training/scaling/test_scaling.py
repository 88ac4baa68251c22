"""Laws are found again in points that they made, and what is published is reproduced."""

from __future__ import annotations

import json
import math
from pathlib import Path
from random import Random

import pytest

from graft.cli.main import main
from graft.training.errors import DataError
from graft.training.scaling.cluster import LLAMA_3, predict
from graft.training.scaling.fit import fit, fit_chinchilla, fit_kaplan
from graft.training.scaling.grid import Cell, Grid
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
    low, high = found.intervals["alpha"]
    assert low < 0.4 < high
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


def test_llama_3s_layouts_are_as_fast_as_published() -> None:
    """One efficiency was chosen by the first row; the others are predicted."""
    for one in LLAMA_3:
        found = predict(one.decoder, one.arrangement)
        assert found.flops_per_gpu / 1e12 == pytest.approx(one.tflops_per_gpu, rel=0.06)
        assert one.arrangement.tokens_per_step == pytest.approx(16.8e6, rel=0.01)
    assert (
        predict(LLAMA_3[1].decoder, LLAMA_3[1].arrangement).bubble
        > predict(LLAMA_3[0].decoder, LLAMA_3[0].arrangement).bubble
    )


def test_the_command_plans_and_reads_points(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["scaling", "plan", "--flops", "1e21,5.76e23", "--law", "besiroglu"]) == 0
    assert capsys.readouterr().out.count("\n") == 4
    law = Chinchilla(e=1.5, a=200.0, b=900.0, alpha=0.4, beta=0.35)
    path = tmp_path / "points.jsonl"
    path.write_text("".join(json.dumps(vars_of(point)) + "\n" for point in points(law)))
    assert main(["scaling", "fit", "--points", str(path), "--folder", str(tmp_path / "fit")]) == 0
    assert "best for 1e+18 FLOPs" in capsys.readouterr().out
    assert (tmp_path / "fit" / "isoflop.png").stat().st_size > 5000
    assert main(["scaling", "plan", "--flops", "1e18", "--law", str(tmp_path / "fit" / "law.json")]) == 0
    for arguments, message in (
        (["plan", "--flops", "lots"], "--flops has the value 'lots'"),
        (["plan", "--flops", "1e18", "--law", "oak"], "'oak' is no law"),
        (["fit"], "give --text to train a grid on"),
        (["fit", "--points", str(tmp_path / "fit" / "law.json")], "line 1: no point"),
    ):
        assert main(["scaling", *arguments]) == 2
        assert message in capsys.readouterr().err


def vars_of(point: Point) -> dict[str, float]:
    return {"parameters": point.parameters, "tokens": point.tokens, "loss": point.loss}


def test_a_grid_is_trained_once(tmp_path: Path) -> None:
    rng = Random(0)
    texts = [" ".join(rng.choices(["one", "two", "three", "four"], k=60)) for _ in range(120)]
    grid = Grid(texts, tmp_path)
    cell = Cell(width=32, tokens=6000)
    first = grid.point(cell)
    assert first.tokens == 5120 and 0 < first.loss < 7
    assert Grid(texts, tmp_path).point(cell) == first
    with pytest.raises(DataError, match="tokens to train on, and 9000000 were asked for"):
        grid.check([Cell(width=32, tokens=9_000_000)])
