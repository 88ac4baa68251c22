"""One training of a comparison, in a process of its own: ``python -m graft.bench.training.contender SPEC.json``.

The result is the last line it prints, as JSON.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from graft.training.batch.packing import Encoded
from graft.training.batch.supervised_rows import SupervisedRows
from graft.training.loop.optim import Schedule, adamw
from graft.training.loop.progress import METRICS, Gauge
from graft.training.loop.run import Run
from graft.training.loop.step import Step
from graft.training.model.casting import cast
from graft.training.model.cost.flops import flops_per_token
from graft.training.model.cost.peaks import peak_flops
from graft.training.objective.attending import Circumstances, choose_attention
from graft.training.objective.causal import CausalObjective
from graft.training.runtime.device import device_kind

LEARNING_RATE, WEIGHT_DECAY, BETAS, MAX_NORM = 1e-3, 0.1, (0.9, 0.95), 1.0
NUM_WARM = 4
"""First steps that do not count."""


@dataclass(frozen=True, kw_only=True)
class Spec:
    """What both train: the same weights at first, the same rows in the same order."""

    who: str
    """``graft`` or ``trainer``."""
    config: str
    """Folder of the model's configuration."""
    rows: str
    """JSON lines of token ids."""
    rows_per_step: int
    num_steps: int


@dataclass(frozen=True, kw_only=True)
class Result:
    """What one training showed."""

    tokens_per_second: float
    peak_bytes: int
    last_loss: float
    """Mean over the last quarter of the steps."""
    mfu: float | None


def graft(spec: Spec, rows: Sequence[list[int]], model: PreTrainedModel) -> tuple[list[float], list[float]]:
    """Graft's loop on them: (seconds, losses) of every step."""
    data = SupervisedRows(
        rows=[Encoded(input_ids=ids, supervised=[True] * len(ids)) for ids in rows],
        rows_per_batch=spec.rows_per_step,
        batches_per_step=1,
        packing=True,
        pad_id=model.config.pad_token_id,
        seed=0,
        is_shuffled=False,
    )
    device = device_kind()
    choose_attention(model, "auto", Circumstances(device=device, dtype=torch.bfloat16))
    with tempfile.TemporaryDirectory() as folder:
        step = Step(
            cast(model, torch.bfloat16, device),
            objective=CausalObjective(),
            optimizers=adamw(weight_decay=WEIGHT_DECAY, betas=BETAS),
            max_gradient_norm=MAX_NORM,
        )
        Run(
            step=step,
            data=data,
            schedule=_schedule(spec),
            learning_rate=LEARNING_RATE,
            folder=Path(folder),
            saves=False,
        ).execute()
        lines = [json.loads(line) for line in (Path(folder) / METRICS).read_text().splitlines()]
    return [line["seconds"] for line in lines], [line["loss"] for line in lines]


def trainer(spec: Spec, rows: Sequence[list[int]], model: PreTrainedModel) -> tuple[list[float], list[float]]:
    """Hugging Face's ``Trainer`` on them, in bfloat16."""
    from torch.optim.lr_scheduler import LambdaLR
    from torch.utils.data import SequentialSampler
    from transformers import Trainer, TrainerCallback, TrainingArguments

    class InOrder(Trainer):
        def _get_train_sampler(self, *args: Any, **options: Any) -> SequentialSampler:
            return SequentialSampler(rows)

        def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> LambdaLR:
            self.lr_scheduler = LambdaLR(optimizer or self.optimizer, _schedule(spec))
            return self.lr_scheduler

    class Clock(TrainerCallback):
        def __init__(self) -> None:
            self.at = [time.monotonic()]

        def on_step_end(self, *args: Any, **options: Any) -> None:
            self.at.append(time.monotonic())

    def collate(chosen: Sequence[dict[str, list[int]]]) -> dict[str, torch.Tensor]:
        """Filled up to the longest, as Hugging Face's collators do."""
        longest = max(len(row["input_ids"]) for row in chosen)
        ids = torch.full((len(chosen), longest), model.config.pad_token_id)
        mask = torch.zeros(len(chosen), longest, dtype=torch.long)
        for number, row in enumerate(chosen):
            ids[number, : len(row["input_ids"])] = torch.tensor(row["input_ids"])
            mask[number, : len(row["input_ids"])] = 1
        return {"input_ids": ids, "attention_mask": mask, "labels": ids.where(mask == 1, -100)}

    clock = Clock()
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder,
            per_device_train_batch_size=spec.rows_per_step,
            max_steps=spec.num_steps,
            learning_rate=LEARNING_RATE,
            weight_decay=WEIGHT_DECAY,
            adam_beta1=BETAS[0],
            adam_beta2=BETAS[1],
            max_grad_norm=MAX_NORM,
            optim="adamw_torch_fused",
            bf16=True,
            use_cpu=device_kind() == "cpu",
            logging_steps=1,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            remove_unused_columns=False,
            seed=0,
        )
        made = InOrder(
            model=model,
            args=arguments,
            train_dataset=[{"input_ids": ids} for ids in rows],
            data_collator=collate,
            callbacks=[clock],
        )
        made.train()
    losses = [line["loss"] for line in made.state.log_history if "loss" in line]
    return [after - before for before, after in zip(clock.at, clock.at[1:], strict=False)], losses


def _schedule(spec: Spec) -> Schedule:
    return Schedule(num_steps=spec.num_steps, warmup_steps=NUM_WARM, floor=0.1)


def _model(spec: Spec) -> PreTrainedModel:
    torch.manual_seed(0)
    model: PreTrainedModel = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(spec.config))
    return model


def _peak_bytes(device: str) -> int:
    if device == "cuda":
        return int(torch.cuda.max_memory_allocated())
    # Not ru_maxrss, which knows the parent's size as well.
    status = Path("/proc/self/status").read_text()
    return 1024 * int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1])


def main(path: Path) -> None:
    spec = Spec(**json.loads(path.read_text()))
    rows = [json.loads(line) for line in Path(spec.rows).read_text(encoding="utf-8").split("\n") if line]
    seconds, losses = {"graft": graft, "trainer": trainer}[spec.who](spec, rows, _model(spec))
    per_step = [sum(map(len, rows[at : at + spec.rows_per_step])) for at in range(0, len(rows), spec.rows_per_step)]
    counted = slice(NUM_WARM, spec.num_steps)
    speed = sum(per_step[counted]) / sum(seconds[counted])
    device = device_kind()
    peak_bytes = _peak_bytes(device)
    gauge = Gauge(flops_per_token=flops_per_token(_model(spec), max(map(len, rows))), peak=peak_flops(device))
    result = Result(
        tokens_per_second=speed,
        peak_bytes=peak_bytes,
        last_loss=sum(losses[-(spec.num_steps // 4) :]) / (spec.num_steps // 4),
        mfu=gauge.utilisation(speed),
    )
    print(json.dumps(asdict(result)))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
