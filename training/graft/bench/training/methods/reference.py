"""What a trained folder answers without a server: by peft and transformers, on the base in the form that it learned on.
It is what served answers are compared with.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import sqrt
from pathlib import Path
from typing import Any

import torch
from peft import PeftConfig, PeftType, set_peft_model_state_dict
from peft.utils import load_peft_weights
from torch import nn

from graft.adapters.base import files
from graft.adapters.base.base import Base
from graft.adapters.form import ServingForm
from graft.bench.training.methods.said import Said
from graft.bench.training.methods.task import MAX_TOKENS
from graft.training.adapt.compiler.held_base import load_held
from graft.training.adapt.compiler.merged_base import Weights
from graft.training.adapt.made.answers import task_of
from graft.training.adapt.methods.bottleneck import load_bottlenecks
from graft.training.adapt.methods.packed import inject_by_shape
from graft.training.adapt.methods.through_peft import inject
from graft.training.batch.encoding import end_ids
from graft.training.model.cpu_products import multiply_in_float32
from graft.training.model.loading import load_base, load_tokenizer

_BOTTLENECKS = ("houlsby", "pfeiffer")


@dataclass(frozen=True, kw_only=True)
class Trained:
    """What a method made."""

    method: str
    base: Path
    form: ServingForm
    """In which the base was held."""
    folder: Path
    """An adapter's, or a base's where ``is_base``."""
    is_base: bool = False

    def model(self) -> nn.Module:
        if self.is_base:
            return load_base(self.folder, ServingForm.BF16)
        plain = load_base(self.base, self.form)
        if self.method in _BOTTLENECKS:
            return load_bottlenecks(plain, self.folder)
        # On NF4 peft's own `from_pretrained` does not load every method.
        config = PeftConfig.from_pretrained(str(self.folder))
        config.inference_mode = True
        make = inject_by_shape if config.peft_type in (PeftType.LOHA, PeftType.LOKR) else inject
        model = make(plain, config, base_name=self.base.name)
        set_peft_model_state_dict(model, load_peft_weights(str(self.folder)))
        return model


@dataclass(frozen=True, kw_only=True)
class InFourBits:
    """A new base that is brought into NF4."""

    said: Said
    error: float
    """Of what its training changed, relative to that (Frobenius norms): how far NF4 is from it."""


@dataclass(frozen=True, kw_only=True)
class Reference:
    """Beside what a server said."""

    own: Said
    """By what was trained."""
    said: Said
    """By what served answers are held against: what was trained, or of a merge the base that it made."""
    below_nats: list[float] = field(default_factory=list)
    """Of each served answer, how far its worst token stands below the reference's first choice in that place."""
    in_four_bits: InFourBits | None = None
    """Of a new base."""


@torch.no_grad()
def refer(trained: Trained, merged: Path | None, prompts: Sequence[str], served: Said | None) -> Reference:
    """``merged`` is the base that a merge made."""
    multiply_in_float32()
    model = trained.model().eval()
    own = said = answers(model, trained.base, prompts)
    if merged is not None:
        model = load_base(merged, ServingForm.BF16)
        said = answers(model, trained.base, prompts)
    below = [] if served is None else _below(model, trained.base, prompts, served)
    made = merged or (trained.folder if trained.is_base else None)
    four = None if made is None else _in_four_bits(made, trained, prompts)
    return Reference(own=own, said=said, below_nats=below, in_four_bits=four)


def answers(model: nn.Module, base: Path, prompts: Sequence[str]) -> Said:
    """Greedy, each alone, to the first token that ends a text."""
    tokenizer, ends = load_tokenizer(base), _ends(base)
    ids, texts = [], []
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
        new: list[int] = found_1L[0].tolist()
        new = new[ids_1L.shape[1] :] if new[: ids_1L.shape[1]] == ids_1L[0].tolist() else new
        ids.append(to_the_end(new, ends))
        texts.append(tokenizer.decode(new, skip_special_tokens=True))
    return Said(ids=ids, texts=texts)


def to_the_end(ids: Sequence[int], ends: Sequence[int]) -> list[int]:
    """With the token that ends a text, and nothing behind it."""
    end = next((at for at, one in enumerate(ids) if one in ends), len(ids))
    return list(ids[: end + 1])


def _ends(base: Path) -> list[int]:
    return list(end_ids(load_tokenizer(base), files.stop_ids(base)))


def _below(model: nn.Module, base: Path, prompts: Sequence[str], served: Said) -> list[float]:
    """Each token behind what was served before it, so that one that is a matter of rounding spoils none after it."""
    tokenizer, ends = load_tokenizer(base), _ends(base)
    found = []
    for prompt, all_ids in zip(prompts, served.ids, strict=True):
        ids = to_the_end(all_ids, ends)
        before = [*tokenizer(prompt, add_special_tokens=False)["input_ids"], *ids[:-1]]
        logits_LV = model(input_ids=torch.tensor([before]), **task_of(model)).logits[0, -len(ids) :]
        logprobs_LV = logits_LV.float().log_softmax(-1)
        chosen_L = logprobs_LV.gather(1, torch.tensor(ids)[:, None])[:, 0]
        found.append(float((logprobs_LV.max(-1).values - chosen_L).max()))
    return found


def _in_four_bits(made: Path, trained: Trained, prompts: Sequence[str]) -> InFourBits:
    said = answers(load_base(made, ServingForm.NF4), trained.base, prompts)
    device = torch.device("cpu")
    before = load_held(Base.from_folder(trained.base), trained.form, device=device)
    there = Base.from_folder(made)
    in_nf4 = load_held(there, ServingForm.NF4, device=device)
    layers = Weights.of(load_held(there, ServingForm.BF16, device=device)).reports(before=before, served=in_nf4)
    error, size = (sqrt(sum(getattr(one, of) ** 2 for one in layers)) for of in ("error", "size"))
    return InFourBits(said=said, error=error / size if size else 0.0)


def base_says(base: Path, prompts: Sequence[str]) -> dict[str, Any]:
    """The shipped base itself, as it is served."""
    multiply_in_float32()
    with torch.no_grad():
        return vars(answers(load_base(base, ServingForm.NF4), base, prompts))
