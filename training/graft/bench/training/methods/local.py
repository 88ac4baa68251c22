"""What a trained folder answers without a server: by peft and transformers, on the base in the form that it learned on.

A program: ``python -m graft.bench.training.methods.local NAME FOLDER`` reads prompts (a JSON list) and writes
their answers.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from peft import PeftConfig, PeftType, set_peft_model_state_dict
from peft.utils import load_peft_weights
from torch import nn

from graft.adapters.base import files
from graft.adapters.base.base import Base, find_base
from graft.adapters.form import ServingForm
from graft.bench.training.methods.task import MAX_TOKENS
from graft.bench.training.methods.trial import BASE, settings_of
from graft.training.adapt.made.answers import task_of
from graft.training.adapt.methods.bottleneck import load_bottlenecks
from graft.training.adapt.methods.packed import inject_by_shape
from graft.training.adapt.methods.through_peft import inject
from graft.training.batch.encoding import end_ids
from graft.training.model.cpu_products import multiply_in_float32
from graft.training.model.loading import load_base, load_tokenizer

_BOTTLENECKS = ("houlsby", "pfeiffer")


def model_of(name: str, folder: Path) -> nn.Module:
    """``base`` is the shipped base itself, ``full`` a base in ``folder``; ``merged`` one that was compiled."""
    if name == "base":
        return load_base(find_base(BASE), ServingForm.NF4)
    if name in ("full", "merged"):
        return load_base(folder, ServingForm.BF16)
    base = Base.from_folder(find_base(BASE))
    settings = settings_of(name)
    plain = load_base(base.path, settings.form)
    if name in _BOTTLENECKS:
        return load_bottlenecks(plain, folder)
    # On NF4 peft's own `from_pretrained` does not load every method.
    config = PeftConfig.from_pretrained(str(folder))
    config.inference_mode = True
    make = inject_by_shape if config.peft_type in (PeftType.LOHA, PeftType.LOKR) else inject
    model = make(plain, config, base_name=base.name)
    set_peft_model_state_dict(model, load_peft_weights(str(folder)))
    return model


def answers(model: nn.Module, prompts: Sequence[str]) -> list[str]:
    """Greedy, each alone, to the first token that ends a text."""
    path = find_base(BASE)
    tokenizer = load_tokenizer(path)
    ends = list(end_ids(tokenizer, files.stop_ids(path)))
    said = []
    for prompt in prompts:
        ids_1L = torch.tensor([tokenizer(prompt, add_special_tokens=False)["input_ids"]])
        found_1L = model.generate(
            input_ids=ids_1L,
            attention_mask=torch.ones_like(ids_1L),
            do_sample=False,
            max_new_tokens=MAX_TOKENS,
            eos_token_id=ends,
            pad_token_id=ends[0],
            **task_of(model),
        )
        new = found_1L[0].tolist()
        new = new[ids_1L.shape[1] :] if new[: ids_1L.shape[1]] == ids_1L[0].tolist() else new
        said.append(tokenizer.decode(new, skip_special_tokens=True))
    return said


def main(name: str, folder: str) -> None:
    multiply_in_float32()
    prompts = json.load(sys.stdin)
    with torch.no_grad():
        said = answers(model_of(name, Path(folder)).eval(), prompts)
    sys.stdout.write(json.dumps(said))


if __name__ == "__main__":
    main(*sys.argv[1:])
