"""What a fine-tuning would take, from a configuration alone."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, TaskType
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from graft.adapters.form import ServingForm
from graft.cli.main import main
from graft.training.adapt.methods.through_peft import inject
from graft.training.batch.packing import Encoded
from graft.training.batch.supervised_rows import SupervisedRows
from graft.training.finetune.memory import Adapted
from graft.training.loop.optim import adamw
from graft.training.loop.step import Step
from graft.training.model.blocks import recompute
from graft.training.objective.causal import CausalObjective
from tests.training.pretrain.storages import Storages

LLAMA_3_8B = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 4096,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "intermediate_size": 14336,
    "vocab_size": 128_256,
    "max_position_embeddings": 8192,
    "rope_theta": 500_000.0,
    "tie_word_embeddings": False,
}
QWEN3_8B = {
    "architectures": ["Qwen3ForCausalLM"],
    "model_type": "qwen3",
    "hidden_size": 4096,
    "num_hidden_layers": 36,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "intermediate_size": 12288,
    "vocab_size": 151_936,
    "max_position_embeddings": 40_960,
    "tie_word_embeddings": False,
}
"""As in the folders on the hub."""


def planned(config: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str], *flags: str) -> str:
    folder = tmp_path / "base"
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    assert main(["finetune", "--plan", "--base", str(folder), *flags]) == 0
    return capsys.readouterr().out


def table(said: str) -> dict[tuple[int, str], list[str]]:
    """By rows of a batch, and whether blocks are computed again: the other cells."""
    rows = [line.strip("| ").split(" | ") for line in said.splitlines() if re.match(r"\| \d", line)]
    return {(int(row[0]), row[2]): row[3:] for row in rows}


@pytest.mark.parametrize(("config", "in_blocks", "outside"), [(LLAMA_3_8B, 6.98, 1.05), (QWEN3_8B, 6.95, 1.24)])
def test_8b_qlora_at_512_tokens_fits_24_and_48_gb(
    config: dict[str, Any], in_blocks: float, outside: float, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Billions of weights: 4 bits and a float32 scale for each 64 of the first, 16 bits of the second."""
    largest = {}
    for gpu, memory in (("NVIDIA L4", "24G"), ("NVIDIA L40S", "48G")):
        said = planned(config, tmp_path, capsys, "--gpu", gpu, "--memory", memory)
        cells = table(said)
        assert float(cells[1, "no"][0]) == pytest.approx(in_blocks * (0.5 + 4 / 64) + 2 * outside, rel=0.01)
        assert cells[1, "no"][-1] == cells[1, "yes"][-1] == "yes" and cells[64, "no"][-1] == "no"
        assert float(cells[8, "yes"][4]) < float(cells[8, "no"][4])
        largest[memory] = [int(one) for one in re.findall(r"(\d+) with", said.splitlines()[-1])]
    for small, large in zip(largest["24G"], largest["48G"], strict=True):
        assert 1 <= small < large or small == large == 64


def test_what_is_chosen_is_marked_and_what_does_not_fit_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--gpu", "NVIDIA L4", "--memory", "24G"]
    said = planned(
        LLAMA_3_8B, tmp_path, capsys, *flags, "--gradient-checkpointing", "--per-device-train-batch-size", "3"
    )
    assert table(said)[3, "yes"][-1] == "yes, chosen" and "at 40% MFU about" in said
    said = planned(LLAMA_3_8B, tmp_path, capsys, "--gpu", "A10", "--memory", "16G", "--no-load-in-4bit")
    assert said.splitlines()[-1].startswith("nothing fits: the least is 1") and "--load-in-4bit" in said
    said = planned(LLAMA_3_8B, tmp_path, capsys, "--gpu", "A10", "--memory", "2G")
    assert said.splitlines()[-1].startswith("nothing fits: the least is") and "--load-in-4bit" not in said
    assert all(f"--{way}" in said for way in ("max-length", "bnb-4bit-use-double-quant", "dp-shard"))


def test_int8_halves_and_plain_weights_do_not(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of 6.98 billion weights in the blocks, beside 2.1 GB outside of them."""
    flags = ["--gpu", "H100", "--memory", "80G"]
    plain, int8 = (
        float(table(planned(LLAMA_3_8B, tmp_path, capsys, *flags, *form))[1, "no"][0])
        for form in (["--no-load-in-4bit"], ["--load-in-8bit"])
    )
    assert plain == pytest.approx(16.06, rel=5e-3) and int8 == pytest.approx(6.98 + 2.1, rel=1e-2)


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--plan", "--target-modules", "q_prj"], "q_proj"),
        (["--plan", "--base", "nowhere"], "nowhere"),
        (["--plan", "--devices", "2", "--tp", "2"], "tp cannot split a base with adapters on it"),
        (["--plan", "--devices", "2", "--load-in-8bit"], "LLM.int8 cannot be sharded"),
        (["--plan", "--dp-shard", "8"], "dp_shard 8 asks for 8 processes, and there are 1"),
        ([], "--data is missing; without it there is only --plan"),
        (["--data", "rows.jsonl"], "--name is missing; without it there is only --plan and --audit"),
        (["--memory", "8G"], "--memory is for --plan"),
        (["--plan", "--task", "text-classification"], "--plan is for what serves text, and --task makes a head"),
        (["--plan", "--teacher", "nowhere"], "no base is called 'nowhere'"),
        (["--plan", "--per-device-train-batch-size", "1" + "0" * 20], "it must be from 1 to 65536"),
    ],
)
def test_a_plan_refuses_in_a_line(
    flags: list[str], told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "config.json").write_text(json.dumps(LLAMA_3_8B))
    assert main(["finetune", "--base", str(tmp_path), *flags]) == 2
    assert told in capsys.readouterr().err


def test_eight_devices_hold_an_eighth_each_and_what_is_gathered(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of Llama 3 8B in NF4: an eighth of all, two of 32 blocks, and 1.05 billion weights outside of the blocks."""
    flags = ["--gpu", "H100", "--memory", "80G", "--devices", "8"]
    whole = 6.98 * (0.5 + 4 / 64) + 2 * 1.05
    zero3 = whole / 8 + 6.98 * (0.5 + 4 / 64) * 2 / 32 + 2 * 1.05
    for layout, expected in {
        (): zero3,
        ("--dp-shard", "8"): zero3,
        ("--zero-stage", "2"): whole / 8 + whole,
        ("--zero-stage", "1"): whole,
        ("--dp-replicate", "8"): whole,
    }.items():
        cells = table(planned(LLAMA_3_8B, tmp_path, capsys, *flags, *layout))
        assert float(cells[1, "no"][0]) == pytest.approx(expected, rel=0.01)


TWO_BLOCKS = {**LLAMA_3_8B, "num_hidden_layers": 2}
"""1.487 billion weights."""


def test_a_budget_of_tokens_is_planned_in_lines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--gpu", "H100", "--memory", "80G", "--max-length", "512"]
    said = table(planned(TWO_BLOCKS, tmp_path, capsys, *flags, "--max-tokens-per-batch", "2600"))
    assert said[5, "no"][-1] == "yes, chosen"  # 5 × 512 are the most in 2,600
    same = table(planned(TWO_BLOCKS, tmp_path, capsys, *flags, "--per-device-train-batch-size", "5"))
    assert said[5, "no"] == same[5, "no"]
    assert "| 1 | 300 | no |" in planned(TWO_BLOCKS, tmp_path, capsys, *flags, "--max-tokens-per-batch", "300")


def test_a_teacher_lies_beside_the_base(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """In 16 bits, on every device."""
    flags = ["--gpu", "H100", "--memory", "80G"]
    alone = planned(TWO_BLOCKS, tmp_path, capsys, *flags)
    taught = planned(TWO_BLOCKS, tmp_path, capsys, *flags, "--teacher", str(tmp_path / "base"))
    more, less = (float(table(said)[1, "no"][0]) for said in (taught, alone))
    assert more - less == pytest.approx(2 * 1.487, rel=0.01)
    assert "the teacher, base in bf16 (2.97 GB), lies on every device" in taught


def test_rows_beyond_the_base_s_positions_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--gpu", "H100", "--memory", "80G", "--max-length"]
    assert "positions" not in planned(LLAMA_3_8B, tmp_path, capsys, *flags, "8192")
    assert "max_length is 8193, and base has 8192 positions" in planned(LLAMA_3_8B, tmp_path, capsys, *flags, "8193")


SMALL: dict[str, Any] = {
    "hidden_size": 128,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "intermediate_size": 384,
    "vocab_size": 2000,
    "max_position_embeddings": 256,
    "tie_word_embeddings": False,
}
ROWS, LENGTH = 8, 128


def small(model_type: str, *, device: str) -> PreTrainedModel:
    with torch.device(device):
        model: PreTrainedModel = AutoModelForCausalLM.from_config(AutoConfig.for_model(model_type, **SMALL))
        model = model.to(torch.bfloat16).requires_grad_(False)  # type: ignore[arg-type]
        inject(model, LoraConfig(r=8, target_modules="all-linear", task_type=TaskType.CAUSAL_LM), base_name="small")
    return model


@pytest.mark.parametrize("is_checkpointed", [False, True])
@pytest.mark.parametrize("model_type", ["llama", "gpt_neox"])
def test_a_plan_is_what_steps_really_hold(model_type: str, is_checkpointed: bool) -> None:
    """Of adapters on a bfloat16 base; bytes of a quantized one are counted above."""
    need = Adapted(model=small(model_type, device="meta"), form=ServingForm.BF16).memory(
        rows=ROWS, length=LENGTH, recomputes=is_checkpointed, device="cpu"
    )
    model = small(model_type, device="cpu")
    if is_checkpointed:
        recompute(model)
    rows = [Encoded(input_ids=[7] * LENGTH, supervised=[True] * LENGTH) for _ in range(2 * ROWS)]
    data = SupervisedRows(rows=rows, rows_per_batch=ROWS, batches_per_step=1, packing=True, pad_id=0, seed=0)
    with Storages([*model.parameters(), *model.buffers()]) as storages:
        step = Step(model, objective=CausalObjective(), optimizers=adamw())
        for number in range(2):
            step.forward_backward(data.batches(number))
            step.optimizer_step(1e-3)
    assert need.total == pytest.approx(storages.peak, rel=0.1)
