"""What a plan says before anything starts, of GPUs that are not here."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path

import pytest

from graft.cli.main import main
from tests.training.finetune.test_plan import LLAMA_3_8B

LLAMA_7B = [
    *("--hidden-size", "4096", "--num-hidden-layers", "32", "--num-attention-heads", "32"),
    *("--num-key-value-heads", "8", "--intermediate-size", "14336", "--vocab-size", "270"),
]


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As much as a step of the largest batch takes."""
    rng, path = random.Random(0), tmp_path_factory.mktemp("text") / "text.jsonl"
    lines = [json.dumps({"text": " ".join(rng.choices(["abcd", "efgh", "ijkl"], k=40))}) for _ in range(2000)]
    path.write_text("\n".join(lines))
    return path


def planned(text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], *flags: str) -> str:
    output = str(tmp_path / "base")
    assert main(["pretrain", "--text", str(text), "--output", output, "--max-steps", "100", "--plan", *flags]) == 0
    return capsys.readouterr().out


def layouts(said: str) -> dict[str, tuple[float, str]]:
    """GB and verdict, by the sizes of the axes and the stage of ZeRO."""
    rows = [row.strip("| ").split(" | ") for row in said.splitlines() if re.match(r"\| \d", row)]
    return {" ".join(row[:6]): (float(row[-2]), row[-1]) for row in rows}


def test_eight_h100_hold_7_billion_with_zero_3(text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """16 bytes a parameter in eight parts, and what is gathered: of 7 billion in blocks 14 GB, activations aside."""
    flags = ["--devices", "8", "--gpu", "NVIDIA H100 80GB HBM3", "--memory", "80G", "--max-length", "1024"]
    said = planned(text, tmp_path, capsys, *LLAMA_7B, *flags, "--per-device-train-batch-size", "1")
    found = layouts(said)
    assert "80.0 GB for each of 8 cuda devices" in said and "at 40% MFU" in said
    gigabytes, verdict = found["1 1 8 1 1 3"]
    assert verdict == "yes, chosen" and 14 < gigabytes < 40
    assert found["1 8 1 1 1 –"][1] == "no"
    assert gigabytes < found["1 1 8 1 1 2"][0] < found["1 1 8 1 1 1"][0] < found["1 8 1 1 1 –"][0]


def test_the_time_is_that_of_so_many_gpus(text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """FLOPs divided by 40 % of 8 × 989.4 TFLOP/s."""
    flags = ["--devices", "8", "--gpu", "H100", "--memory", "80G", "--max-length", "1024"]
    said = planned(text, tmp_path, capsys, *LLAMA_7B, *flags)
    (flops, number, unit) = re.findall(r"([\d.e+]+) FLOPs, about ([\d.]+) (\w+) at", said)[0]
    seconds = float(number) * {"s": 1, "min": 60, "h": 3600, "days": 86400}[unit]
    assert seconds == pytest.approx(float(flops) / (0.4 * 8 * 989.4e12), rel=0.06)


@pytest.mark.parametrize(
    ("memory", "rows", "told"),
    [
        ("80G", 1, r"the chosen layout does not fit; --dp-shard 8 --zero-stage 3 does, with \d+"),
        ("17G", 8, r"with --gradient-checkpointing it does: \d+"),
        ("16G", 32, r"--gradient-checkpointing --per-device-train-batch-size \d+ it does"),
        ("8G", 1, r"nothing fits, even with .* take more devices"),
    ],
)
def test_what_does_not_fit_is_said_with_what_would(
    memory: str, rows: int, told: str, text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    chosen = ["--dp-replicate", "8"] if memory == "80G" else []
    size = ["--max-length", "512", "--per-device-train-batch-size", str(rows), *chosen]
    flags = ["--devices", "8", "--gpu", "H100", "--memory", memory]
    said = planned(text, tmp_path, capsys, *LLAMA_7B, *flags, *size)
    assert re.search(told, said.splitlines()[-1]), said


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (
            ["--plan", "--gpu", "H300", "--memory", "80G"],
            "'H300' is no card whose bfloat16 peak is known: give one of B200",
        ),
        (["--plan", "--gpu", "Tesla T4", "--memory", "16G"], "T4 have no bfloat16"),
        (["--plan", "--gpu", "H100"], "add --memory, such as 80G"),
        (["--gpu", "H100"], "--gpu is for --plan"),
    ],
)
def test_a_card_that_is_not_known_is_not_guessed(
    flags: list[str], told: str, text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["pretrain", "--text", str(text), "--output", str(tmp_path / "base"), *flags]) == 2
    assert told in capsys.readouterr().err


def test_eight_gpus_are_planned_for_before_there_is_a_text(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of a configuration alone: Llama 3 8B has 8.03 billion parameters."""
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(LLAMA_3_8B))
    typed = ["pretrain", "--model", str(folder), "--output", str(tmp_path / "base"), "--plan", "--devices", "8"]
    typed += ["--gpu", "H100", "--memory", "80G", "--max-length", "2048", "--per-device-train-batch-size", "1"]
    assert main(typed) == 0
    said = capsys.readouterr().out
    assert "8,030.26M parameters" in said and "vocabulary 128256" in said and "epochs" not in said
    assert "\nsteps of 8 rows of 2048 tokens; how many steps is told with --max-steps" in said
    assert re.search(r"FLOPs a token, [\d,]+ tokens/s at 40% MFU", said)
    assert layouts(said)["1 1 8 1 1 3"][1].endswith("chosen")
    assert main([*typed, "--max-steps", "1000"]) == 0
    assert "1,000 steps of 8 rows of 2048 tokens: 16.4M tokens\n" in capsys.readouterr().out


def test_a_plan_without_text_model_and_tokenizer_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["pretrain", "--output", str(tmp_path / "base"), "--plan"]) == 2
    assert "name files with --text; for a plan --tokenizer or --model do" in capsys.readouterr().err
