"""A training that is killed again and again, in processes forked from one that has imported everything.

Arguments: folder, name of the signal, then the steps after whose report it comes. The last start runs to the end.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from pathlib import Path

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from graft.training.batch.text_rows import PackedText
from graft.training.errors import Interrupted
from graft.training.loop.checkpoint import complete_checkpoints, step_of
from graft.training.loop.optim import Schedule, adamw
from graft.training.loop.run import Run
from graft.training.loop.step import Step
from graft.training.objective.causal import CausalObjective
from tests.training.objective.vocabularies import DECODER, PAD, SEP, documents

NUM_STEPS = 60
WEIGHTS = "weights.pt"
TOLD = "told.txt"


def train(folder: Path) -> None:
    """With dropout: the generator of random numbers has to come back, too."""
    torch.manual_seed(0)
    config = LlamaConfig(**DECODER, attention_dropout=0.1)
    model = LlamaForCausalLM(config).to(torch.bfloat16)
    data = PackedText(
        documents(*[25] * 200), length=32, end_id=SEP, pad_id=PAD, rows_per_batch=2, batches_per_step=2, seed=0
    )
    run = Run(
        step=Step(model, objective=CausalObjective(), optimizers=adamw()),
        data=data,
        schedule=Schedule(num_steps=NUM_STEPS, warmup_steps=4),
        learning_rate=3e-3,
        folder=folder,
        checkpoint_steps=3,
    )
    run.execute(resume=True)
    torch.save(model.state_dict(), folder / WEIGHTS)


def start(folder: Path) -> int:
    child = os.fork()
    if child == 0:
        try:
            train(folder)
            os._exit(0)
        except Interrupted as told:
            (folder / TOLD).write_text(str(told))
            os._exit(told.exit_code)
        finally:
            os._exit(1)
    return child


def num_reported(folder: Path) -> int:
    path = folder / "metrics.jsonl"
    return path.read_text().count("\n") if path.exists() else 0


def end(child: int, number: signal.Signals, folder: Path) -> None:
    """SIGKILL leaves what is there; any other the checkpoint of the last step that was reported."""
    os.kill(child, number)
    _, status = os.waitpid(child, 0)
    if number is signal.SIGKILL:
        return
    assert os.waitstatus_to_exitcode(status) == 128 + number
    newest = complete_checkpoints(folder)[-1]
    assert step_of(newest) == num_reported(folder)
    assert (folder / TOLD).read_text() == (
        f"{number.name} after step {step_of(newest)} of {NUM_STEPS}; {newest.name} is complete in {folder}: "
        "go on with --resume."
    )


def main(folder: Path, number: signal.Signals, steps: list[int]) -> None:
    torch.set_num_threads(1)
    rng = random.Random(0)
    for step in steps:
        child = start(folder)
        while num_reported(folder) <= step:
            ended, _ = os.waitpid(child, os.WNOHANG)
            assert not ended, "the training ended before it was killed"
            time.sleep(0.001)
        time.sleep(rng.random() * 0.05)  # anywhere in what follows: a step, a checkpoint, the beginning of the next
        end(child, number, folder)
    assert os.waitpid(start(folder), 0)[1] == 0


if __name__ == "__main__":
    main(Path(sys.argv[1]), signal.Signals[sys.argv[2]], [int(step) for step in sys.argv[3:]])
