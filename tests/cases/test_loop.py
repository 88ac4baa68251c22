"""Cases of the training loop: its checkpoints, its schedule, what it is told and what it tells."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from graft.adapters.base.base import find_base
from graft.training.job.export import write_base
from graft.training.loop.progress import METRICS
from tests.cases.harness.command import CommandCase, Commands
from tests.cases.harness.forkserver import Outcome

PRETRAIN = [
    *("pretrain", "--text", "{folder}/text.jsonl", "--output", "{folder}/base", "--work", "{folder}/work"),
    *("--hidden-size", "64", "--num-hidden-layers", "2", "--num-attention-heads", "2", "--max-length", "64"),
    *("--vocab-size", "400", "--per-device-train-batch-size", "4"),
]
FINETUNE = ["finetune", "--data", "{folder}/rows.jsonl", "--name", "one", "--output", "{folder}/one"]


def write_text(folder: Path) -> None:
    rng = random.Random(0)
    words = ["".join(rng.choices("abcdefgh", k=4)) for _ in range(50)]
    lines = [json.dumps({"text": " ".join(rng.choices(words, k=40))}) for _ in range(200)]
    (folder / "text.jsonl").write_text("\n".join(lines) + "\n")


def write_convolutions(folder: Path) -> None:
    """A base with convolution layers, of random weights."""
    write_rows(folder)
    tokenizer = AutoTokenizer.from_pretrained(find_base("rootstock-5m"))
    config = AutoConfig.for_model(
        "lfm2",
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        block_ff_dim=128,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        layer_types=["conv", "full_attention"],
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config).to(torch.bfloat16)
    write_base(model, tokenizer, folder / "conv", card="# conv\n")


def write_rows(folder: Path) -> None:
    (folder / "rows.jsonl").write_text('{"prompt": "ant -> ", "completion": "ANT"}\n' * 8)


def nothing_but(*names: str, inside: str = ".") -> Callable[[Path], None]:
    """Afterwards a folder holds these and no drafts."""

    def check(folder: Path) -> None:
        assert sorted(path.name for path in (folder / inside).iterdir()) == sorted(names)

    return check


CASES = [
    CommandCase(
        id="T20 a quantized folder",
        argv=["quantize", "rootstock-5m", "--form", "int8", "--output", "{folder}/out"],
        max_file_bytes=400_000,
        says=["/out could not be written: File too large", "Make room, and run the command again"],
        silent=["SafetensorError", "os error"],
        then=nothing_but(),
    ),
    CommandCase(
        id="T20 a base's checkpoint",
        argv=[*PRETRAIN, "--max-steps", "2"],
        prepare=write_text,
        max_file_bytes=500_000,
        says=["checkpoint-2 could not be written: File too large", "Make room, and go on with --resume"],
        silent=["CheckpointException"],
        then=lambda folder: [
            nothing_but("text.jsonl", "work")(folder),
            nothing_but("job.json", "metrics.jsonl", "tokenizer", "tokens", inside="work")(folder),
        ],
    ),
    CommandCase(
        id="T20 an adapter in its checkpoint",
        argv=[*FINETUNE, "--max-steps", "2"],
        prepare=write_rows,
        max_file_bytes=400_000,
        says=["/one/checkpoint-1 could not be written: File too large", "go on with --resume"],
        silent=["SafetensorError", "os error"],
        then=nothing_but("job.json", "metrics.jsonl", inside="one"),
    ),
]


CASES += [
    CommandCase(
        id="T11 packed rows in a model with convolutions",
        argv=[*FINETUNE, "--base", "{folder}/conv", "--no-load-in-4bit", "--max-steps", "1"],
        prepare=write_convolutions,
        says=["lfm2 has layers (conv)", "Add --no-packing"],
        then=nothing_but("conv", "rows.jsonl"),
    ),
    CommandCase(
        id="T11 not packed",
        argv=[*FINETUNE, "--base", "{folder}/conv", "--no-load-in-4bit", "--max-steps", "1", "--no-packing"],
        prepare=write_convolutions,
        code=0,
    ),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_commands(case: CommandCase, commands: Commands) -> None:
    commands.check(case)


def test_R7_a_constant_run_is_prolonged_and_a_cosine_run_names_the_way(commands: Commands) -> None:
    """What is advised is accepted when it is typed (number 19)."""
    write_text(commands.folder)

    def pretrain(*words: str) -> Outcome:
        return commands.run(*(word.replace("{folder}", str(commands.folder)) for word in (*PRETRAIN, *words)))

    constant = ["--lr-scheduler-type", "constant"]
    assert pretrain(*constant, "--max-steps", "4").code == 0
    prolonged = pretrain(*constant, "--max-steps", "8", "--resume")
    assert prolonged.code == 0, prolonged.said
    assert (commands.folder / "work" / METRICS).read_text().count("\n") == 8
    refused = pretrain("--max-steps", "16", "--resume")
    assert refused.code == 2 and "lr_scheduler_type constant and lr_min_ratio 0.1, not lr_scheduler_type" in refused.err
    longer = pretrain(*constant, "--max-steps", "40", "--resume")
    assert longer.code == 2 and "add --warmup-steps 1" in longer.err
    assert pretrain(*constant, "--max-steps", "12", "--resume", "--warmup-steps", "1").code == 0
