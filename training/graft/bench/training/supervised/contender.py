"""One supervised training of a comparison, in a process of its own: ``python -m
graft.bench.training.supervised.contender SPEC.json``. The result is the last line it prints, as JSON.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

LEARNING_RATE, RANK, ALPHA = 2e-4, 16, 32
NUM_WARM = 2
"""First steps that do not count."""


@dataclass(frozen=True, kw_only=True)
class Spec:
    """What each trains: the same adapter on the same base, over the same rows once."""

    who: str
    """``graft`` or ``trl``."""
    base: str
    rows: str
    dtype: str
    """Of the base: ``bfloat16`` or ``float32``."""
    packing: bool
    """Whether TRL has several rows in one line; Graft has."""
    rows_per_step: int
    lines_per_step: int
    """Where TRL packs: as many of ``length`` tokens are about as many rows."""
    length: int


@dataclass(frozen=True, kw_only=True)
class Result:
    """What one training showed; tokens are those of rows, without padding."""

    tokens_per_second: float
    tokens_per_processor_second: float
    num_tokens: int
    """Of all steps."""
    mean_loss: float


@dataclass(kw_only=True)
class Clock:
    """When steps ended, by the clock and by the processor."""

    at: list[tuple[float, float]] = field(default_factory=list)

    def tick(self) -> None:
        self.at.append((time.monotonic(), time.process_time()))

    def speeds(self, tokens: list[int]) -> tuple[float, float]:
        """Tokens of the steps that count by either; ``tokens`` are those of each."""
        counted = sum(tokens[NUM_WARM:])
        (begin, begin_processor), (end, end_processor) = self.at[NUM_WARM - 1], self.at[-1]
        return counted / (end - begin), counted / (end_processor - begin_processor)

    def report(self, step: int, metrics: Mapping[str, float]) -> None:
        """As a listener of a run."""
        self.tick()

    def close(self) -> None:
        pass


def graft(spec: Spec) -> tuple[Clock, list[int], list[float]]:
    """The clock, and of each step the tokens and the loss."""
    from graft.adapters.base.base import Base
    from graft.adapters.form import ServingForm
    from graft.training.finetune.job import Finetune
    from graft.training.finetune.settings import FinetuneSettings
    from graft.training.loop.progress import read_metrics
    from graft.training.loop.run import Run

    clock = Clock()

    class Timed(Finetune):
        """In numbers that no setting has."""

        @property
        def form(self) -> ServingForm:
            return ServingForm.FP32 if spec.dtype == "float32" else ServingForm.BF16

        def run(self, *args: Any, **options: Any) -> Run:
            run = super().run(*args, **options)
            run.listeners = lambda step: [clock]
            return run

    with tempfile.TemporaryDirectory() as folder:
        settings = FinetuneSettings(
            load_in_4bit=False,
            r=RANK,
            lora_alpha=ALPHA,
            learning_rate=LEARNING_RATE,
            lr_scheduler_type="constant",
            warmup_steps=0,
            per_device_train_batch_size=spec.rows_per_step,
            num_train_epochs=1,
            max_length=spec.length,
            spike_sigmas=0.0,
            report_examples=0,
        )
        base = Base.from_folder(Path(spec.base))
        job = Timed(base=base, data=Path(spec.rows), settings=settings, work=Path(folder) / "run")
        job.execute()
        metrics = read_metrics(job.work)
    return clock, [int(row["tokens"]) for row in metrics], [row["loss"] for row in metrics]


def trl(spec: Spec) -> tuple[Clock, list[int], list[float]]:
    """The same by TRL's ``SFTTrainer``."""
    import torch
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
    from trl import SFTConfig, SFTTrainer

    class Ticks(TrainerCallback):
        def on_step_end(self, *args: Any, **options: Any) -> None:
            clock.tick()

    clock = Clock()
    rows = [json.loads(line) for line in Path(spec.rows).read_text(encoding="utf-8").split("\n") if line]
    lines = {"per_device_train_batch_size": 1, "gradient_accumulation_steps": spec.lines_per_step}
    with tempfile.TemporaryDirectory() as folder:
        config = SFTConfig(
            output_dir=folder,
            learning_rate=LEARNING_RATE,
            lr_scheduler_type="constant",
            num_train_epochs=1,
            max_length=spec.length,
            packing=spec.packing,
            **(lines if spec.packing else {"per_device_train_batch_size": spec.rows_per_step}),
            gradient_checkpointing=False,
            bf16=spec.dtype == "bfloat16",
            use_cpu=True,
            logging_steps=1,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            seed=0,
        )
        trainer = SFTTrainer(
            model=AutoModelForCausalLM.from_pretrained(spec.base, dtype=getattr(torch, spec.dtype)),
            args=config,
            train_dataset=Dataset.from_list(rows),
            processing_class=AutoTokenizer.from_pretrained(spec.base),
            peft_config=LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules="all-linear", task_type="CAUSAL_LM"),
            callbacks=[Ticks()],
        )
        trainer.train()
    told = [line for line in trainer.state.log_history if "loss" in line]
    seen = [0, *(int(line["num_tokens"]) for line in told)]
    tokens = [after - before for before, after in pairwise(seen)]
    return clock, tokens, [line["loss"] for line in told]


def main(path: Path) -> None:
    spec = Spec(**json.loads(path.read_text()))
    clock, tokens, losses = {"graft": graft, "trl": trl}[spec.who](spec)
    by_clock, by_processor = clock.speeds(tokens)
    result = Result(
        tokens_per_second=by_clock,
        tokens_per_processor_second=by_processor,
        num_tokens=sum(tokens),
        mean_loss=sum(losses) / len(losses),
    )
    print(json.dumps(asdict(result)))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
