"""What a trained folder answers without a server: by peft and transformers, on the base in the form that it learned on.
It is what served answers are compared with.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import inf, sqrt
from pathlib import Path
from typing import Any

import torch
from peft import PeftConfig, PeftType, set_peft_model_state_dict
from peft.utils import load_peft_weights
from torch import Tensor, nn

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
from graft.training.adapt.methods.vectors import keep_types
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
        keep_types(model)
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
    own, below = answers(trained.model().eval(), trained.base, prompts, served)
    said = own
    if merged is not None:
        said, below = answers(load_base(merged, ServingForm.BF16), trained.base, prompts, served)
    made = merged or (trained.folder if trained.is_base else None)
    four = None if made is None else _in_four_bits(made, trained, prompts, served)
    return Reference(own=own, said=said, below_nats=below, in_four_bits=four)


def answers(
    model: nn.Module, base: Path, prompts: Sequence[str], guess: Said | None = None
) -> tuple[Said, list[float]]:
    """Greedy, each alone, to the first token that ends a text; and of each guess, how many nats its worst token stands
    below the first choice behind what was guessed before it.

    A guess whose every token is the first choice is the greedy answer: one pass shows it, and only others are generated
    token by token.
    """
    tokenizer = load_tokenizer(base)
    ends = list(end_ids(tokenizer, files.stop_ids(base)))
    found, below = [], []
    for number, prompt in enumerate(prompts):
        prompt_ids: list[int] = tokenizer(prompt, add_special_tokens=False)["input_ids"]
        ids: list[int] | None = None
        guessed = [] if guess is None else to_the_end(guess.ids[number], ends)
        if guess is not None and not guessed:
            below.append(inf)  # nothing was said that could be near
        elif guessed:
            chosen_L, first_L, distance = _scored(model, prompt_ids, guessed)
            below.append(distance)
            is_whole = len(guessed) == MAX_TOKENS or guessed[-1] in ends
            ids = guessed if is_whole and torch.equal(chosen_L, first_L) else None
        found.append(_generated(model, prompt_ids, ends) if ids is None else ids)
    return Said(ids=found, texts=[tokenizer.decode(ids, skip_special_tokens=True) for ids in found]), below


def _generated(model: nn.Module, prompt_ids: list[int], ends: list[int]) -> list[int]:
    ids_1L = torch.tensor([prompt_ids])
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
    new = new[len(prompt_ids) :] if new[: len(prompt_ids)] == prompt_ids else new
    return to_the_end(new, ends)


def _scored(model: nn.Module, prompt_ids: list[int], ids: list[int]) -> tuple[Tensor, Tensor, float]:
    """Each token behind what stands before it, so that one that is a matter of rounding spoils none after it: the
    tokens, the first choices in their places, and the largest distance of a token from it in nats.
    """
    before = [*prompt_ids, *ids[:-1]]
    logits_LV = model(input_ids=torch.tensor([before]), **task_of(model)).logits[0, -len(ids) :]
    logprobs_LV = logits_LV.float().log_softmax(-1)
    chosen_L = torch.tensor(ids)
    distance_L = logprobs_LV.max(-1).values - logprobs_LV.gather(1, chosen_L[:, None])[:, 0]
    return chosen_L, logprobs_LV.argmax(-1), float(distance_L.max())


def to_the_end(ids: Sequence[int], ends: Sequence[int]) -> list[int]:
    """With the token that ends a text, and nothing behind it."""
    end = next((at for at, one in enumerate(ids) if one in ends), len(ids))
    return list(ids[: end + 1])


def _in_four_bits(made: Path, trained: Trained, prompts: Sequence[str], served: Said | None) -> InFourBits:
    said, _ = answers(load_base(made, ServingForm.NF4), trained.base, prompts, served)
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
        said, _ = answers(load_base(base, ServingForm.NF4), base, prompts)
    return vars(said)
