"""One DPO training of a comparison, in a process of its own: ``python -m graft.bench.training.alignment.contender
SPEC.json``. The result is the last line it prints, as JSON.
"""

from __future__ import annotations

import json
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

LEARNING_RATE, BETA, RANK, ALPHA = 1e-4, 0.1, 16, 32
NUM_WARM = 2
"""First steps whose time does not count."""


@dataclass(frozen=True, kw_only=True)
class Spec:
    """What both train: the same base, the same pairs, the same adapter."""

    who: str
    """``graft`` or ``trl``."""
    base: str
    rows: str
    pairs_per_step: int
    num_steps: int
    recomputes: bool
    """Whether blocks are computed again on the way back."""


@dataclass(frozen=True, kw_only=True)
class Result:
    """What one training showed."""

    peak_bytes: int
    """Of the whole process."""
    own_bytes: int
    """Of it what came after the libraries."""
    seconds: float
    """Of a step."""
    first_loss: float
    last_loss: float


def graft(spec: Spec) -> tuple[int, list[float], list[float]]:
    """Bytes before it, and of each step the seconds and the loss."""
    from graft.adapters.base.base import Base
    from graft.training.loop.progress import read_metrics
    from graft.training.preference.job import Align
    from graft.training.preference.settings import AlignSettings

    before = memory("VmRSS")
    with tempfile.TemporaryDirectory() as folder:
        settings = AlignSettings(
            load_in_4bit=False,
            r=RANK,
            lora_alpha=ALPHA,
            beta=BETA,
            learning_rate=LEARNING_RATE,
            lr_scheduler_type="constant",
            warmup_steps=0,
            per_device_train_batch_size=spec.pairs_per_step,
            max_steps=spec.num_steps,
            gradient_checkpointing="full" if spec.recomputes else "none",
            spike_sigmas=0.0,
        )
        base = Base.from_folder(Path(spec.base))
        job = Align(base=base, data=Path(spec.rows), settings=settings, work=Path(folder) / "run")
        job.execute()
        metrics = read_metrics(job.work)
    return before, [row["seconds"] for row in metrics], [row["loss"] for row in metrics]


def trl(spec: Spec) -> tuple[int, list[float], list[float]]:
    """The same by TRL's ``DPOTrainer``, with the reference by the disabled adapter, too."""
    import time

    import torch
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
    from trl import DPOConfig, DPOTrainer

    class Clock(TrainerCallback):
        def __init__(self) -> None:
            self.at = [time.monotonic()]

        def on_step_end(self, *args: Any, **options: Any) -> None:
            self.at.append(time.monotonic())

    clock, before = Clock(), memory("VmRSS")
    rows = [json.loads(line) for line in Path(spec.rows).read_text(encoding="utf-8").split("\n") if line]
    with tempfile.TemporaryDirectory() as folder:
        config = DPOConfig(
            output_dir=folder,
            beta=BETA,
            learning_rate=LEARNING_RATE,
            lr_scheduler_type="constant",
            per_device_train_batch_size=spec.pairs_per_step,
            max_steps=spec.num_steps,
            gradient_checkpointing=spec.recomputes,
            max_length=None,
            bf16=True,
            use_cpu=True,
            logging_steps=1,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            seed=0,
        )
        trainer = DPOTrainer(
            model=AutoModelForCausalLM.from_pretrained(spec.base, dtype=torch.bfloat16),
            args=config,
            train_dataset=Dataset.from_list(rows),
            processing_class=AutoTokenizer.from_pretrained(spec.base),
            peft_config=LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules="all-linear", task_type="CAUSAL_LM"),
            callbacks=[clock],
        )
        trainer.train()
    losses = [line["loss"] for line in trainer.state.log_history if "loss" in line]
    return before, [after - at for at, after in zip(clock.at, clock.at[1:], strict=False)], losses


def memory(name: str) -> int:
    """Bytes of this process; of ``VmHWM`` the most so far (not ``ru_maxrss``, which knows the parent's, too)."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(next(line for line in status.splitlines() if line.startswith(name)).split()[1])


def main(path: Path) -> None:
    spec = Spec(**json.loads(path.read_text()))
    before, seconds, losses = {"graft": graft, "trl": trl}[spec.who](spec)
    peak = memory("VmHWM")
    result = Result(
        peak_bytes=peak,
        own_bytes=peak - before,
        seconds=median(seconds[NUM_WARM:]),
        first_loss=losses[0],
        last_loss=losses[-1],
    )
    print(json.dumps(asdict(result)))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
