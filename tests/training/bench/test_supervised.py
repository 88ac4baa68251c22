"""What the benchmark against TRL's ``SFTTrainer`` makes of its runs, and what it refuses; never a time."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from graft.bench.training.supervised.comparison import OURS, THEIRS, SftPlan, Way, _figures, sft_figures
from graft.bench.training.supervised.contender import Clock, Result
from graft.cli.main import main


def result(speed: float) -> Result:
    return Result(tokens_per_second=speed, tokens_per_processor_second=2 * speed, num_tokens=100, mean_loss=2.0)


def test_the_ratio_is_to_the_fastest_of_the_other() -> None:
    speeds = [900.0, 500.0, 1000.0, 100.0]
    rounds = [{**{way: result(2000.0) for way in OURS}, **dict(zip(THEIRS, map(result, speeds), strict=True))}]
    figures = _figures(rounds)
    assert figures["sft_vs_trl"].value == figures["sft_vs_trl_by_processor"].value == 2.0
    assert figures["sft_float32_vs_trl_padded"].value == 20.0
    assert figures["sft_bfloat16_vs_trl_padded"].value == 4.0
    assert figures["sft_trl_packed_bfloat16"].value == 900.0
    assert Way(who="trl", dtype="float32", packing=False).name == "trl_padded_float32"


def test_steps_that_warm_up_do_not_count() -> None:
    clock = Clock(at=[(0.0, 0.0), (10.0, 1.0), (11.0, 1.5), (12.0, 2.0)])
    assert clock.speeds([1000, 1000, 30, 50]) == (40.0, 80.0)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('{"prompt": "a"}\n', "rows.jsonl:1 is no JSON object with a prompt and a completion"),
        (
            '{"prompt": "a b c", "completion": "d e f"}\n',
            "has 1 rows of at most 512 tokens, and at least 64 are needed",
        ),
    ],
)
def test_rows_that_do_not_do(tmp_path: Path, text: str, told: str, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(text)
    assert main(["bench", "training", "--only", "sft", "--rows", str(path)]) == 2
    assert told in capsys.readouterr().err


@pytest.mark.slow
def test_both_learn_the_same_from_the_same(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    rows = [
        {"prompt": f"{number} and {7 * number}\n", "completion": "word " * (number % 40 + 1)} for number in range(64)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    figures = sft_figures(SftPlan(rows=path, generated=lambda rng: iter(()), num_pairs=1, num_steps=4))
    losses = [figures[f"sft_{way.name}_loss"].value for way in (*OURS, *THEIRS)]
    assert losses == pytest.approx([losses[0]] * len(losses), rel=0.01)
