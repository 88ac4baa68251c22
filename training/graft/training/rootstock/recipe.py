"""The bases that Graft ships, trained from generated documents alone."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from graft.training.corpus.chat_template import IM_END
from graft.training.errors import ConfigurationError
from graft.training.loop.optim import MakeOptimizers, Schedule, muon
from graft.training.loop.run import Run
from graft.training.loop.step import Step
from graft.training.loop.weights import WorkingForm, bfloat16_form, nf4_form
from graft.training.model.casting import cast
from graft.training.objective.causal import CausalObjective
from graft.training.rootstock.corpus.mixture import ROOTSTOCK, Mixture
from graft.training.rootstock.corpus.packed_mixture import PackedMixture
from graft.training.rootstock.tokenizer import build_tokenizer


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A complete recipe for a base."""

    name: str
    config: LlamaConfig
    mixture: Mixture
    optimizers: MakeOptimizers
    learning_rate: float
    num_steps: int
    warmup_steps: int
    num_rows: int
    """Rows per step."""
    length: int
    """Tokens per row."""
    nf4_share: float
    """The last part of the run computes with weights rounded to NF4, because that is how the base is served."""
    seed: int = 0

    @property
    def tokenizer(self) -> PreTrainedTokenizerFast:
        return build_tokenizer(self.config.max_position_embeddings)

    def form_at(self, step: int) -> WorkingForm:
        return nf4_form if step >= self.num_steps * (1 - self.nf4_share) else bfloat16_form

    def run(self, folder: Path) -> Run:
        """Makes the freshly initialised model and its run."""
        torch.manual_seed(self.seed)
        model = cast(LlamaForCausalLM(self.config), torch.bfloat16)
        data = PackedMixture(
            mixture=self.mixture, tokenizer=self.tokenizer, num_rows=self.num_rows, length=self.length, seed=self.seed
        )
        schedule = Schedule(num_steps=self.num_steps, warmup_steps=self.warmup_steps, floor=0.02)
        return Run(
            step=Step(model, objective=CausalObjective(), optimizers=self.optimizers, working_form=self.form_at),
            data=data,
            schedule=schedule,
            learning_rate=self.learning_rate,
            folder=folder,
        )


def llama_config(tokenizer: PreTrainedTokenizerFast, *, width: int, num_layers: int) -> LlamaConfig:
    """Llama with heads of 64 and a feed-forward of 2.75 widths (Touvron et al. 2023), tied embeddings."""
    return LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=width * 11 // 4,
        num_hidden_layers=num_layers,
        num_attention_heads=width // 64,
        num_key_value_heads=width // 64,
        head_dim=64,
        max_position_embeddings=tokenizer.model_max_length,
        tie_word_embeddings=True,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=[tokenizer.eos_token_id, tokenizer.convert_tokens_to_ids(IM_END)],
        attn_implementation="sdpa",
    )


def rootstock_5m(*, num_steps: int = 2200, seed: int = 0) -> Recipe:
    """4.1 million parameters, about 17 million tokens: an hour on two cores."""
    return Recipe(
        name="rootstock-5m",
        config=llama_config(build_tokenizer(1024), width=256, num_layers=5),
        mixture=ROOTSTOCK,
        optimizers=muon(),
        learning_rate=2e-3,
        num_steps=num_steps,
        warmup_steps=60,
        num_rows=16,
        length=512,
        nf4_share=0.28,
        seed=seed,
    )


RECIPES: dict[str, Callable[..., Recipe]] = {"rootstock-5m": rootstock_5m}


def recipe_of(name: str, *, num_steps: int | None, seed: int) -> Recipe:
    """The recipe of this name, with fewer or more steps where asked. Raises ``ConfigurationError`` for any other."""
    if name not in RECIPES:
        raise ConfigurationError(f"unknown recipe {name!r}; the recipes are {', '.join(sorted(RECIPES))}.")
    settings = {} if num_steps is None else {"num_steps": num_steps}
    return RECIPES[name](seed=seed, **settings)
