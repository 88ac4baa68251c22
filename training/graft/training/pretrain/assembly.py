"""From settings and a tokenizer to a model and its objective."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import GenerationConfig, PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from graft.training.errors import ConfigurationError
from graft.training.model.casting import cast
from graft.training.model.configuration import num_positions
from graft.training.model.cost.flops import flops_per_token
from graft.training.model.deferred import Deferred, drawn, without_numbers
from graft.training.model.family import DEFAULT, Family, Size, family, family_of
from graft.training.model.float8 import reason_against_float8
from graft.training.model.loading import load, load_in_parts, parts
from graft.training.objective import catalog
from graft.training.objective.distillation import DecoderDistillation, EncoderDistillation
from graft.training.objective.encoder_decoder import SequenceToSequence
from graft.training.objective.masked import MaskedObjective
from graft.training.objective.masks import reaches
from graft.training.objective.objective import Objective
from graft.training.parallel.mesh import Mesh
from graft.training.pretrain.settings import PretrainSettings
from graft.training.pretrain.sources import saved_config, saved_tokenizer

_log = logging.getLogger(__name__)

DTYPES = {"bfloat16": torch.bfloat16, "float32": torch.float32}
TAUGHT = ("causal", "masked")
"""What a teacher can teach."""


@dataclass(frozen=True, kw_only=True)
class Assembly:
    """What a pretraining is made of. Making it draws no random number."""

    settings: PretrainSettings
    tokenizer: PreTrainedTokenizerBase
    family: Family
    objective_name: str

    @classmethod
    def of(cls, settings: PretrainSettings, tokenizer: PreTrainedTokenizerBase) -> Assembly:
        """Raises ``ConfigurationError`` where tokenizer, model and objective do not go together."""
        if settings.model is None:
            named = family(settings.family or DEFAULT)
        else:
            named = family_of(saved_config(settings.model))
            if settings.family not in (None, named.name):
                raise ConfigurationError(
                    f"the model in {settings.model} is a {named.name}, no {settings.family}: leave --family out."
                )
        chosen = named.objective(settings.objective)
        if settings.model is not None and not hasattr(catalog.model_class(chosen), "from_pretrained"):
            raise ConfigurationError(f"a saved model cannot go on with {chosen!r} yet: train it anew, without --model.")
        made = cls(settings=settings, tokenizer=tokenizer, family=named, objective_name=chosen)
        if settings.model is not None:
            _check_fit(saved_config(settings.model), tokenizer, settings)
        if settings.teacher is not None:
            made._check_teacher(settings.teacher)
        if settings.dtype == "bfloat16" and named.needs_float32:
            raise ConfigurationError(f"{named.name} computes in float32 only: leave dtype out, or say float32.")
        made.plain_objective()
        if chosen == "prefix" and not all(reach.is_whole for reach in reaches(made.skeleton()).values()):
            raise ConfigurationError(
                "'prefix' reads the first part of a row from both sides, whatever its length: a sliding_window goes "
                "with 'causal' only."
            )
        for setting in made._idle():
            _log.warning("%s has no effect here", setting)
        return made

    def _idle(self) -> list[str]:
        """Settings that were said and change nothing."""
        settings, defaults = self.settings, PretrainSettings()
        conditions = {
            "vocab_size": settings.tokenizer is None and settings.model is None and settings.teacher is None,
            "whole_word_masking": self.objective_name in ("masked", "next_sentence", "sentence_order"),
            "z_loss": self.objective_name == "causal" and settings.teacher is None,
            "eval_steps": settings.validation is not None,
            "num_local_experts": self.family.router is not None,
            "sliding_window": self.family.takes_window,
            **dict.fromkeys(("hidden_size", "num_hidden_layers", "dropout"), settings.model is None),
            **dict.fromkeys(("num_attention_heads", "intermediate_size"), settings.model is None),
        }
        return [
            name
            for name, has_effect in conditions.items()
            if not has_effect and getattr(settings, name) != getattr(defaults, name)
        ]

    def check_device(self, device: str) -> None:
        """Raises ``ConfigurationError`` where processes that compute on such a device cannot do what was asked for."""
        if self.settings.float8 and (reason := reason_against_float8(device)) is not None:
            raise ConfigurationError(f"{reason}.")
        if self.settings.cpu_offload and device == "cpu":
            raise ConfigurationError(
                "cpu_offload has the value true, and weights lie in the host's memory already where a CPU computes: "
                "leave it out."
            )

    def check_mesh(self, mesh: Mesh, num_processes: int) -> None:
        """Raises ``ConfigurationError`` with every reason why this cannot be trained on such a mesh."""
        mesh.check(
            parts(self.skeleton())[""].config,
            num_processes=num_processes,
            batches_per_step=self.settings.gradient_accumulation_steps * mesh.dp,
            length=self.settings.max_length,
            further=self._reasons_against(mesh),
        )

    def _reasons_against(self, mesh: Mesh) -> Iterator[str]:
        settings = self.settings
        if settings.teacher is not None and (mesh.tp > 1 or mesh.pp > 1 or mesh.cp > 1):
            yield "a teacher is not split: distil with dp_replicate and dp_shard"
        if settings.eval_steps is not None and mesh.pp > 1:
            yield "eval_steps cannot be used with pp: a pipeline measures at the end only"
        if settings.optim != "adamw" and (mesh.tp > 1 or mesh.shards_weights):
            yield f"{settings.optim} needs whole matrices; use adamw where they are split or sharded"
        if settings.cpu_offload and not mesh.shards_weights:
            yield "cpu_offload needs weights that are sharded: take dp_shard of 2 or more and zero_stage 2 or 3"
        if settings.sync_each_batch and (mesh.pp > 1 or not mesh.shards_weights):
            yield "sync_each_batch is for weights that are sharded, and not for pp: take dp_shard, or leave it out"
        if settings.float8 and mesh.tp > 1:
            yield "float8 cannot be combined with tp yet"
        if self.objective_name != "causal" and (mesh.pp > 1 or mesh.cp > 1):
            yield f"pp and cp compute next-token prediction only, not {self.objective_name}"

    @property
    def dtype(self) -> torch.dtype:
        """What is computed in."""
        named = self.settings.dtype or ("float32" if self.family.needs_float32 else "bfloat16")
        return DTYPES[named]

    @property
    def size(self) -> Size:
        settings = self.settings
        return Size(
            width=settings.hidden_size,
            num_layers=settings.num_hidden_layers,
            num_heads=settings.num_attention_heads,
            feed_forward=settings.intermediate_size or 4 * settings.hidden_size,
            length=settings.max_length,
            num_kv_heads=settings.num_key_value_heads,
            num_experts=settings.num_local_experts,
            window=settings.sliding_window,
            dropout=settings.dropout,
        )

    def model(self) -> nn.Module:
        """The model before its first step, in float32: random weights by the seed, or those of ``settings.model``."""
        torch.manual_seed(self.settings.seed)
        if self.settings.model is not None:
            return load(Path(self.settings.model), catalog.model_class(self.objective_name))
        return catalog.build(self.family, self.objective_name, self.size, self.tokenizer)

    def deferred(self) -> Deferred | nn.Module:
        """The same for several processes, each of which takes its parts of the numbers."""
        torch.manual_seed(self.settings.seed)
        if self.settings.model is None:
            found = drawn(lambda: catalog.build(self.family, self.objective_name, self.size, self.tokenizer))
        else:
            found = load_in_parts(Path(self.settings.model), self._unloaded)
        if found is None:
            _log.warning("the weights cannot be made or read in parts: each process makes the whole model first")
        return found or self.model()

    def empty(self) -> nn.Module:
        """The model in the type that is computed in, with memory but no numbers yet."""
        if self.settings.model is None:
            return without_numbers(
                lambda: catalog.build(self.family, self.objective_name, self.size, self.tokenizer), self.dtype
            )
        return without_numbers(self._unloaded, self.dtype)

    def _unloaded(self) -> PreTrainedModel:
        """What ``settings.model`` says of itself beside its weights."""
        folder = str(self.settings.model)
        model: PreTrainedModel = catalog.model_class(self.objective_name).from_config(saved_config(folder))
        if (Path(folder) / "generation_config.json").exists():
            model.generation_config = GenerationConfig.from_pretrained(folder)
        return model

    def skeleton(self) -> nn.Module:
        """The model's shape, without memory for its weights."""
        with torch.device("meta"):
            if self.settings.model is not None:
                heads = catalog.model_class(self.objective_name)
                empty: PreTrainedModel = heads.from_config(saved_config(self.settings.model))
                return empty
            return catalog.build(self.family, self.objective_name, self.size, self.tokenizer)

    def size_said(self) -> str:
        """For an error."""
        num = sum(one.numel() for one in self.skeleton().parameters())
        return (
            f"a model of {num:,} parameters ({4 * num / 1e9:,.1f} GB in float32, and as much again thrice to train it)"
        )

    def flops_per_token(self) -> float | None:
        """Of a full row, for each token that is read; a teacher's are left out."""
        objective, model = self.plain_objective(), self.skeleton()
        if isinstance(objective, SequenceToSequence):
            read, written = objective.row_lengths
            return flops_per_token(model, read, target_length=written)
        return flops_per_token(model, self.settings.max_length)

    def objective(self, *, device: str = "cpu") -> Objective[Any]:
        """What is learned; a teacher is loaded onto the device."""
        plain = self.plain_objective()
        if self.settings.teacher is None:
            return plain
        teacher = load(Path(self.settings.teacher), catalog.model_class(self.objective_name))
        cast(teacher.requires_grad_(False), self.dtype, device)
        if isinstance(plain, MaskedObjective):
            return EncoderDistillation(masked=plain, teacher=teacher)
        return DecoderDistillation(teacher=teacher)

    def _check_teacher(self, folder: str) -> None:
        """Raises ``ConfigurationError`` where a teacher cannot teach this student."""
        config = saved_config(folder)
        its = family_of(config)
        taught = self.objective_name in TAUGHT and self.objective_name in its.objectives
        if not taught or self.family.router is not None:
            raise ConfigurationError(
                f"a teacher can teach {' and '.join(TAUGHT)} where it was trained so, and no mixture of experts; the "
                f"one in {folder} is a {its.name}; asked for was {self.family.name} with {self.objective_name!r}."
            )
        if config.vocab_size != len(self.tokenizer):
            raise ConfigurationError(
                f"the teacher in {folder} has {config.vocab_size} tokens and the tokenizer {len(self.tokenizer)}: give "
                "the teacher's --tokenizer."
            )
        _check_room(config, folder, self.settings.max_length, what="teacher")
        width = self.skeleton().config.hidden_size
        if self.objective_name == "masked" and width != config.hidden_size:
            raise ConfigurationError(
                f"the teacher in {folder} is {config.hidden_size} wide and the student {width}: an encoder's states "
                "are compared, so take --hidden-size of the teacher."
            )

    def plain_objective(self) -> Objective[Any]:
        """The same without a teacher: what is measured."""
        return catalog.objective(
            self.objective_name,
            family=self.family,
            tokenizer=self.tokenizer,
            length=self.settings.max_length,
            whole_word=self.settings.whole_word_masking,
            z_loss=self.settings.z_loss,
        )


def _check_fit(config: PretrainedConfig, tokenizer: PreTrainedTokenizerBase, settings: PretrainSettings) -> None:
    highest = max(tokenizer.get_vocab().values())
    if highest >= config.vocab_size:
        raise ConfigurationError(
            f"the tokenizer in {settings.tokenizer or settings.model} does not fit the model in {settings.model}: it "
            f"has ids up to {highest}, and the model has embeddings for {config.vocab_size}; take the model's own."
        )
    _check_room(config, str(settings.model), settings.max_length, what="model")
    if settings.model is None or settings.tokenizer is None or not (Path(settings.model) / "tokenizer.json").exists():
        return
    if saved_tokenizer(settings.model).get_vocab() != tokenizer.get_vocab():
        raise ConfigurationError(
            f"the tokenizer in {settings.tokenizer} does not fit the model in {settings.model}, whose own gives other "
            "ids to the same text: leave --tokenizer out."
        )


def _check_room(config: PretrainedConfig, folder: str, length: int, *, what: str) -> None:
    room = num_positions(config)
    if room is not None and length > room:
        raise ConfigurationError(f"max_length is {length}, and the {what} in {folder} has {room} positions: lower it.")
