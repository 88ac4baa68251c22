"""What the demo of reinforcement reckons with: gaps in windows, what is refused first."""

from __future__ import annotations

import argparse

import pytest

from graft.cli.commands import demo
from graft.cli.demo.report import Report
from graft.cli.demo.rl.demo import Asked, _judge, _shown
from graft.cli.demo.rl.others import Others, Window
from graft.cli.failure import UserError
from graft.cli.load import TimedAnswer


def answer(*arrivals: float) -> TimedAnswer:
    return TimedAnswer(
        text="", begin=arrivals[0], end=arrivals[-1], arrivals=arrivals, num_tokens=len(arrivals), answerer=None
    )


def test_a_gap_counts_where_it_lies_as_a_whole() -> None:
    others = Others(target="nobody")
    others.answers = [answer(0.0, 1.0, 3.0, 3.5), answer(9.0, 9.25)]
    others.windows = [
        Window(begin=0.5, end=3.2, is_training=False),
        Window(begin=3.0, end=10.0, is_training=True),
    ]
    assert others.gap_seconds(is_training=False) == 2.0
    assert others.gap_seconds(is_training=True) == 0.5
    assert others.gap_seconds(is_training=True, percent=50) == 0.25
    assert [one["num"] for one in others.by_window()] == [1, 2]
    assert Others(target="nobody").gap_seconds(is_training=True) is None


ROUND = {"step": 0, "reward": 0.5, "validation_reward": 0.9, "validation_reward_before": 0.1, "seconds": 1.0}


def test_without_gaps_the_claim_of_gaps_fails(capsys: pytest.CaptureFixture[str]) -> None:
    asked, report = Asked(method="grpo", seed=0, num_rounds=1), Report()
    shown = _shown(asked, [ROUND], Others(target="nobody"), 1.0)
    _judge(shown, report)
    (claim,) = (one for one in report.claims if "gap" in one.text)
    assert not claim.holds and "no gaps" in claim.measured
    assert shown.gap_ratio is None


def said(*arguments: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    demo.configure(parser)
    return parser.parse_args(arguments)


@pytest.mark.parametrize("arguments", [("rl", "--keep", "here"), ("--keep", "here", "rl"), ("--keep", "here")])
def test_the_folder_that_is_kept_is_said_anywhere(arguments: tuple[str, ...]) -> None:
    assert said(*arguments).keep == "here"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--json", "/no/such/found.json"), "--json /no/such"),
        (("--json", "/"), "--json /"),
        (("--rounds", "0"), "is 0"),
    ],
)
def test_what_would_fail_at_the_end_is_refused_first(
    arguments: tuple[str, ...], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("graft.cli.demo.rl.demo.run_rl", lambda *_: pytest.fail("it was begun"))
    with pytest.raises(UserError, match=words):
        demo.run(said("rl", *arguments))
