"""Calibration against the papers' formulas, computed slowly with numpy: a bias goes, what the input says stays."""

from __future__ import annotations

import math

import numpy as np
import pytest

from graft.server.prompting.choices import calibration
from graft.server.prompting.choices.calibration import BatchPriors, Prior
from graft.server.prompting.choices.scoring import probabilities

RANDOM = np.random.default_rng(13)


def softmax(scores: np.ndarray) -> np.ndarray:
    return np.exp(scores) / np.exp(scores).sum(-1, keepdims=True)


def test_contextual_is_zhao_et_al() -> None:
    scores, content_free = RANDOM.normal(-5, 2, 6), RANDOM.normal(-5, 2, (3, 6))
    p, p_cf = softmax(scores), softmax(content_free).mean(0)
    w_p = np.linalg.inv(np.diag(p_cf)) @ p  # W p + b with W = diag(p_cf)^-1, b = 0
    found = calibration.contextual(scores.tolist(), content_free.tolist())
    assert probabilities(found) == pytest.approx((w_p / w_p.sum()).tolist())
    assert np.argsort(found).tolist() == np.argsort(w_p).tolist()


def test_after_contextual_calibration_a_content_free_input_says_nothing() -> None:
    content_free = [-0.1, -2.4, -7.0]
    assert probabilities(calibration.contextual(content_free, [content_free])) == pytest.approx([1 / 3] * 3)
    with pytest.raises(ValueError, match="content-free"):
        calibration.contextual(content_free, [])


def test_domain_conditional_is_holtzman_et_al() -> None:
    scores, premise = RANDOM.normal(-9, 3, 5), RANDOM.normal(-9, 3, 5)
    ratio = np.exp(scores) / np.exp(premise)  # P(y|x) / P(y|domain)
    found = calibration.domain_conditional(scores.tolist(), premise.tolist())
    assert np.exp(found) == pytest.approx(ratio)


def test_what_is_impossible_everywhere_does_not_win() -> None:
    assert calibration.domain_conditional([-math.inf, -2.0], [-math.inf, -1.0])[0] == -math.inf
    assert probabilities(calibration.contextual([-math.inf, -2.0], [[-math.inf, 0.0]]))[0] == 0.0


def test_batch_is_zhou_et_al() -> None:
    inputs = RANDOM.normal(-4, 2, (25, 4))
    priors = BatchPriors()
    for row in inputs:
        prior = priors.add("program", row.tolist())
    assert prior.num_inputs == 25
    assert prior.mean == pytest.approx(softmax(inputs).mean(0).tolist())
    expected = np.log(softmax(inputs[-1])) - np.log(softmax(inputs).mean(0))  # log p(y|x,C) - log mean_x p(y|x,C)
    assert calibration.batch(inputs[-1].tolist(), prior) == pytest.approx(expected.tolist())


def test_few_inputs_are_no_prior() -> None:
    scores = [-1.0, -2.0]
    few = Prior(mean=tuple(probabilities(scores)), num_inputs=BatchPriors.MIN_INPUTS - 1)
    assert probabilities(calibration.batch(scores, few)) == pytest.approx(probabilities(scores))


def test_batch_means_are_each_keys_own_and_bounded() -> None:
    priors = BatchPriors(max_keys=2)
    priors.add("a", [0.0, -9.0])
    assert priors.add("b", [-9.0, 0.0]).num_inputs == 1
    assert priors.add("a", [0.0, -9.0]).num_inputs == 2
    priors.add("c", [0.0, 0.0])
    assert len(priors) == 2
    assert priors.add("b", [-9.0, 0.0]).num_inputs == 1, "b was used longest ago"


@pytest.mark.parametrize("method", ["contextual", "pmi", "batch"])
def test_a_bias_for_one_choice_goes_and_what_the_input_says_stays(method: str) -> None:
    """Inputs that say one of three choices, under a prompt that always leans by 4 nats to the first."""
    bias, labels = np.array([4.0, 0.0, 0.0]), np.arange(90) % 3
    rows = RANDOM.normal(0, 0.5, (90, 3)) + 2.5 * np.eye(3)[labels] + bias - 10
    priors, answers = BatchPriors(), []
    for row in rows:
        priors.add("p", row.tolist())
    for row in rows:
        match method:
            case "contextual":
                found = calibration.contextual(row.tolist(), [bias.tolist()])
            case "pmi":
                found = calibration.domain_conditional(row.tolist(), bias.tolist())
            case _:
                found = calibration.batch(row.tolist(), priors.add("p", row.tolist()))
        answers.append(int(np.argmax(found)))
    assert np.mean(np.argmax(rows, 1) == labels) < 0.5
    assert np.mean(np.array(answers) == labels) > 0.9
