"""TRL's trainers over a tiny adapted model, which are asked for their losses of a batch and never train."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

import torch
from datasets import Dataset
from peft import LoraConfig, PeftModel, TaskType, get_peft_model
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, LlamaForSequenceClassification, PreTrainedTokenizerFast

from graft.training.batch.answers import Answer

VOCABULARY, PAD = 99, 0


def adapted(*, scores: bool = False) -> PeftModel:
    """A Llama with LoRA, away from its base; of those that score a reward model."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        pad_token_id=PAD,
        num_labels=1,
    )
    base = (LlamaForSequenceClassification if scores else LlamaForCausalLM)(config)
    with torch.no_grad():
        for parameter in base.parameters():
            parameter.mul_(3)  # so that answers differ
    task = TaskType.SEQ_CLS if scores else TaskType.CAUSAL_LM
    model = get_peft_model(base, LoraConfig(r=4, target_modules="all-linear", task_type=task))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.2)
    return model


def drawn(num: int, *, seed: int = 0) -> list[Answer]:
    """Pairs: the chosen answers, then the rejected ones behind the same prompts."""
    rng = Random(seed)
    prompts = [[rng.randrange(1, VOCABULARY) for _ in range(rng.randint(1, 9))] for _ in range(num)]
    return [
        Answer.of(prompt, [rng.randrange(1, VOCABULARY) for _ in range(rng.randint(1, 12))])
        for prompt in [*prompts, *prompts]
    ]


@dataclass(frozen=True, kw_only=True)
class Padded:
    """As TRL's collators give them. Shapes: (S, L)."""

    input_ids: Tensor
    attention_mask: Tensor
    completion_mask: Tensor

    @classmethod
    def of(cls, answers: Sequence[Answer]) -> Padded:
        length = max(len(one.input_ids) for one in answers)
        rows = [
            ([*one.input_ids], [1] * len(one.input_ids), [0] * one.num_prompt + [1] * one.num_answer) for one in answers
        ]
        columns = (
            torch.tensor([[*row, *[0] * (length - len(row))] for row in column]) for column in zip(*rows, strict=True)
        )
        return cls(**dict(zip(("input_ids", "attention_mask", "completion_mask"), columns, strict=True)))

    @property
    def labels(self) -> Tensor:
        return self.input_ids.masked_fill(self.completion_mask == 0, -100)

    def part(self, chosen: slice, *, prefix: str) -> dict[str, Tensor]:
        """As TRL's older collators give them."""
        return {
            f"{prefix}_input_ids": self.input_ids[chosen],
            f"{prefix}_attention_mask": self.attention_mask[chosen],
            f"{prefix}_labels": self.labels[chosen],
        }


def trainer(kind: str, model: Any, tokenizer: PreTrainedTokenizerFast, folder: Any, **options: Any) -> Any:
    """One of TRL's, over rows that nobody looks at."""
    import trl
    from trl.experimental import cpo, orpo

    made = {
        "dpo": (trl.DPOTrainer, trl.DPOConfig),
        "kto": (trl.KTOTrainer, trl.KTOConfig),
        "reward": (trl.RewardTrainer, trl.RewardConfig),
        "cpo": (cpo.CPOTrainer, cpo.CPOConfig),
        "orpo": (orpo.ORPOTrainer, orpo.ORPOConfig),
        "grpo": (trl.GRPOTrainer, trl.GRPOConfig),
        "rloo": (trl.RLOOTrainer, trl.RLOOConfig),
    }
    trainer_class, config_class = made[kind]
    row: dict[str, Any] = {"prompt": "a", "chosen": "b", "rejected": "c"}
    if kind == "kto":
        row = {"prompt": "a", "completion": "b", "label": True}
    rewarded = (
        {"reward_funcs": lambda completions, **rest: [0.0] * len(completions)} if kind in ("grpo", "rloo") else {}
    )
    config = config_class(
        output_dir=str(folder),
        use_cpu=True,
        bf16=False,
        report_to="none",
        per_device_train_batch_size=2,
        gradient_checkpointing=False,
        **options,
    )
    rows = [row, {**row, "label": False} if kind == "kto" else row]
    data = Dataset.from_list(rows)
    peer = trainer_class(model=model, args=config, train_dataset=data, processing_class=tokenizer, **rewarded)
    if "ref" in model.peft_config:
        model.delete_adapter("ref")  # a copy of the policy's as it is; without it the base is the reference
    return peer
