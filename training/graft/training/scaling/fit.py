"""Laws fitted to trainings."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import product
from random import Random

import torch
from torch import Tensor

from graft.training.errors import DataError
from graft.training.scaling.laws import Chinchilla, Kaplan, Point, PowerLaw

DELTA = 1e-3
"""Where Huber's loss turns linear, in log loss (Hoffmann et al. 2022, appendix D.2)."""
MIN_POINTS = 6


@dataclass(frozen=True, kw_only=True)
class Fit:
    """All laws of some trainings."""

    chinchilla: Chinchilla
    intervals: dict[str, tuple[float, float]]
    """The middle 80 % of the bootstrap's exponents, and of its E."""
    kaplan: Kaplan
    of_parameters: PowerLaw | None
    """L(N), from the trainings with the most tokens; None where they are too few or loss does not fall."""
    of_tokens: PowerLaw | None
    """L(D), from the largest models."""


def fit(points: Sequence[Point], *, num_resamples: int = 50, seed: int = 0) -> Fit:
    """Fits every law. Raises ``DataError`` for fewer than six points, or ones that do not vary in N and in D."""
    if len(points) < MIN_POINTS:
        raise DataError(f"{len(points)} trainings are too few for five unknowns: make at least {MIN_POINTS}.")
    for what in ("parameters", "tokens"):
        if len({getattr(point, what) for point in points}) < 3:
            raise DataError(f"the trainings have fewer than three different numbers of {what}: nothing can be fitted.")
    best = fit_chinchilla(points)
    rng = Random(seed)
    resampled = [fit_chinchilla(rng.choices(points, k=len(points)), start=best) for _ in range(num_resamples)]
    most_tokens, most_parameters = max(one.tokens for one in points), max(one.parameters for one in points)
    return Fit(
        chinchilla=best,
        intervals={name: _interval([getattr(one, name) for one in resampled]) for name in ("e", "alpha", "beta")},
        kaplan=fit_kaplan(points),
        of_parameters=_power_law((one.parameters, one.loss) for one in points if one.tokens > 0.8 * most_tokens),
        of_tokens=_power_law((one.tokens, one.loss) for one in points if one.parameters > 0.8 * most_parameters),
    )


def fit_chinchilla(points: Sequence[Point], *, start: Chinchilla | None = None) -> Chinchilla:
    """The least Huber loss in log L from many starts, or from one (Hoffmann et al. 2022, eq. 3 and appendix D.2).

    N and D are measured from their geometric means, which keeps the exponents from pulling at A and B.
    """
    log_n, log_d, log_loss = _logs(points)
    mean_n, mean_d = log_n.mean(), log_d.mean()
    least = float(log_loss.min())

    def predicted(x: Tensor) -> Tensor:
        e, a, b, alpha, beta = x
        terms = torch.stack([e.expand_as(log_n), a - alpha * (log_n - mean_n), b - beta * (log_d - mean_d)])
        return terms.logsumexp(0)

    if start is None:
        starts: list[tuple[float, ...]] = [
            (least + math.log(share), least + math.log(rest), least + math.log(rest), alpha, beta)
            for share, rest in ((0.2, 0.4), (0.5, 0.2), (0.8, 0.1))
            for alpha, beta in product((0.1, 0.3, 0.6), repeat=2)
        ]
    else:
        log_a = math.log(start.a) - start.alpha * float(mean_n)
        log_b = math.log(start.b) - start.beta * float(mean_d)
        starts = [(math.log(start.e), log_a, log_b, start.alpha, start.beta)]
    e, a, b, alpha, beta = _minimum(predicted, log_loss, starts)
    return Chinchilla(
        e=math.exp(e),
        a=math.exp(a + alpha * float(mean_n)),
        b=math.exp(b + beta * float(mean_d)),
        alpha=alpha,
        beta=beta,
    )


def fit_kaplan(points: Sequence[Point]) -> Kaplan:
    """The same for Kaplan's joint law; it has no loss that remains."""
    log_n, log_d, log_loss = _logs(points)

    def predicted(x: Tensor) -> Tensor:
        log_n_c, log_d_c, log_alpha_n, log_alpha_d = x
        alpha_n, alpha_d = log_alpha_n.exp(), log_alpha_d.exp()
        of_size = alpha_n / alpha_d * (log_n_c - log_n)
        return alpha_d * torch.stack([of_size, log_d_c - log_d]).logsumexp(0)

    starts = [
        (float(log_n.mean()) + far, float(log_d.mean()) + far, math.log(alpha), math.log(alpha))
        for far in (2.0, 8.0, 16.0)
        for alpha in (0.05, 0.1, 0.3)
    ]
    log_n_c, log_d_c, log_alpha_n, log_alpha_d = _minimum(predicted, log_loss, starts)
    return Kaplan(
        n_c=math.exp(log_n_c), d_c=math.exp(log_d_c), alpha_n=math.exp(log_alpha_n), alpha_d=math.exp(log_alpha_d)
    )


def _minimum(
    predicted: Callable[[Tensor], Tensor], log_loss: Tensor, starts: Sequence[Sequence[float]]
) -> tuple[float, ...]:
    huber = torch.nn.HuberLoss(reduction="sum", delta=DELTA)
    best, least = tuple(starts[0]), math.inf
    for start in starts:
        x = torch.tensor(start, dtype=torch.float64, requires_grad=True)
        optimizer = torch.optim.LBFGS(
            [x], max_iter=300, tolerance_grad=1e-10, tolerance_change=1e-14, line_search_fn="strong_wolfe"
        )

        def closure(x: Tensor = x, optimizer: torch.optim.LBFGS = optimizer) -> Tensor:
            optimizer.zero_grad()
            # Huber's loss is tiny near the minimum: in units of its bend it is not.
            loss = huber(predicted(x), log_loss) / DELTA**2
            loss.backward()
            return loss

        optimizer.step(closure)
        found = float(closure().detach())
        if found < least and bool(torch.isfinite(x).all()):
            best, least = tuple(x.detach().tolist()), found
    return best


def _logs(points: Sequence[Point]) -> tuple[Tensor, Tensor, Tensor]:
    def log(values: Iterable[float]) -> Tensor:
        return torch.tensor(list(values), dtype=torch.float64).log()

    return (
        log(point.parameters for point in points),
        log(point.tokens for point in points),
        log(point.loss for point in points),
    )


def _power_law(pairs: Iterable[tuple[float, float]]) -> PowerLaw | None:
    """Least squares of log L on log x, where there are two x and the line falls."""
    logs = [(math.log(x), math.log(loss)) for x, loss in pairs]
    mean_x, mean_y = (sum(column) / len(logs) for column in zip(*logs, strict=True))
    spread = sum((x - mean_x) ** 2 for x, _ in logs)
    if spread == 0:
        return None
    alpha = -sum((x - mean_x) * (y - mean_y) for x, y in logs) / spread
    if alpha < 1e-3:
        return None
    return PowerLaw(scale=math.exp(mean_x + mean_y / alpha), alpha=alpha)


def _interval(values: Sequence[float]) -> tuple[float, float]:
    ordered = sorted(values)
    return ordered[len(ordered) // 10], ordered[-1 - len(ordered) // 10]
