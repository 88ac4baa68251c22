"""Whether one side of the traffic is worse than the other, however often one looks.

For values in [0, 1] with mean p each factor (q/p)^x ((1-q)/(1-p))^(1-x) has an expectation of at most 1: it is convex
in x, so it lies below its chord from x = 0 to x = 1, whose expectation is 1. Its product over a side's values is
therefore a supermartingale, and so is the mixture of such products over q from a beta distribution, which depends on
the number and the sum of the values alone: the beta-binomial mixture of Robbins (1970, "Statistical methods related to
the law of the iterated logarithm"), one of the conjugate mixtures of Howard, Ramdas, McAuliffe and Sekhon (2021,
"Time-uniform, nonparametric, nonasymptotic confidence sequences"). The product of both sides' is one, too, in whatever
order answers come and whoever counts them; by Ville's inequality it ever reaches 1/a with a probability of at most a.
What is compared with 1/a is its least value over all pairs of means for which the hypothesis holds (universal
inference: Wasserman, Ramdas and Balakrishnan 2020), so that the bound holds for each of these.

Assumed: a side's values are independent with one mean, and nobody chose a request's side by what its value would be.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

# Jeffreys' prior.
_A = _B = 0.5


@dataclass(frozen=True, kw_only=True)
class Losses:
    """`num` values in [0, 1], 0 being best, and their sum."""

    num: int
    total: float

    @property
    def mean(self) -> float:
        """0 of none."""
        return self.total / self.num if self.num else 0.0


def log_evidence_worse(one: Losses, other: Losses) -> float:
    """The natural logarithm of the evidence against "the mean of `one` is no greater than that of `other`"."""
    total, num = one.total + other.total, one.num + other.num
    if not one.num or not other.num or one.mean <= other.mean:
        likelihood = _log_likelihood(one, one.mean) + _log_likelihood(other, other.mean)
    else:
        # The likelihood is concave, so that under the hypothesis both means are the same one.
        likelihood = _log_likelihood(one, total / num) + _log_likelihood(other, total / num)
    return _log_mixture(one) + _log_mixture(other) - likelihood


def is_worse(one: Losses, other: Losses, *, max_false_alarm: float) -> bool:
    """Whether it is: said ever of a side that is not worse with a probability of `max_false_alarm` at most."""
    return log_evidence_worse(one, other) >= -math.log(max_false_alarm)


def _log_mixture(side: Losses) -> float:
    return _log_beta(_A + side.total, _B + side.num - side.total) - _log_beta(_A, _B)


def _log_likelihood(side: Losses, mean: float) -> float:
    return _times_log(side.total, mean) + _times_log(side.num - side.total, 1.0 - mean)


def _times_log(times: float, value: float) -> float:
    return 0.0 if times <= 0 else times * math.log(max(value, 1e-300))


def _log_beta(a: float, b: float) -> float:
    return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)
