"""A base with the head of a task, where it is computed with: all of it learned, or LoRA and the head beside a frozen
base.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, TaskType
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, PretrainedConfig, PreTrainedModel

from graft.adapters.base import files as base_files
from graft.adapters.base.base import Base
from graft.adapters.base.hub_id import HubId
from graft.adapters.form import ServingForm
from graft.training.adapt.methods.through_peft import inject
from graft.training.errors import ConfigurationError
from graft.training.model.blocks import is_in_a_block
from graft.training.model.casting import cast
from graft.training.model.family import facts_of
from graft.training.model.loading import load, load_base
from graft.training.objective.score_and_language import WithLanguageHead
from graft.training.runtime.device import own_device
from graft.training.tasks.head import Head
from graft.training.tasks.names import CHOICES, QUESTIONS, TEXT, TOKENS, WRITING
from graft.training.tasks.settings import FULL, TaskSettings

_PEFT_TASKS = {
    TEXT: TaskType.SEQ_CLS,
    CHOICES: TaskType.SEQ_CLS,
    TOKENS: TaskType.TOKEN_CLS,
    QUESTIONS: TaskType.QUESTION_ANS,
    WRITING: TaskType.SEQ_2_SEQ_LM,
}
DTYPES = {"bfloat16": torch.bfloat16, "float32": torch.float32}


@dataclass(frozen=True, kw_only=True)
class TaskModel:
    """Before its weights are loaded."""

    base: Base
    config: PretrainedConfig
    """The base's, with what the head needs."""
    head: Head
    settings: TaskSettings
    form: ServingForm
    num_tokens: int
    """Of the tokenizer: embeddings are added where there are fewer."""

    def skeleton(self) -> PreTrainedModel:
        """Without memory for weights. Raises ``ConfigurationError`` where the architecture has no such head."""
        with torch.device("meta"):
            made: PreTrainedModel = self.head.model_class(self.config)(self.config)
        return made

    def made(self, device: str) -> nn.Module:
        """On a device, in its type; new weights are drawn by the seed.

        Raises ``ConfigurationError``, ``InvalidBase``.
        """
        torch.manual_seed(self.settings.seed)
        if self.settings.method == FULL:
            return cast(self._whole(), DTYPES[self.settings.dtype], own_device(device))
        return self._adapted(device)

    def _whole(self) -> nn.Module:
        model = load(self.base.path, self.head.model_class(self.config), config=self.config)
        self._grow(model)
        if not self.settings.lm_coef:
            return model
        language = load(self.base.path, AutoModelForCausalLM)
        self._grow(language)
        head = language.get_output_embeddings()
        if self.config.tie_word_embeddings:
            head.weight = model.get_input_embeddings().weight
        return WithLanguageHead(model, head).eval()  # as its parts are loaded: a step looks at the whole alone

    def _grow(self, model: PreTrainedModel) -> None:
        if self.num_tokens > model.get_input_embeddings().weight.shape[0]:
            model.resize_token_embeddings(self.num_tokens, mean_resizing=False)

    def _adapted(self, device: str) -> PeftModel:
        settings, on_hub = self.settings, HubId.of_folder(self.base.path)
        made_by = self.head.model_class(self.config)
        model = load_base(self.base.path, self.form, device=own_device(device), model_class=made_by, config=self.config)
        config = LoraConfig(
            r=settings.r,
            lora_alpha=settings.lora_alpha,
            lora_dropout=settings.lora_dropout,
            target_modules=self.targets(),
            use_rslora=settings.use_rslora,
            modules_to_save=self.new_modules() or None,
            task_type=_PEFT_TASKS[settings.task],
            revision=None if on_hub is None else on_hub.revision,
        )
        return inject(model, config, base_name=self.base.name)

    def new_modules(self) -> list[str]:
        """Names of what is the task's own, and of what the folder lacks beside it, such as BERT's pooler behind masked
        language modelling: they are learned, and kept, whole.
        """
        skeleton = self.skeleton()
        if skeleton.get_output_embeddings() is not None:
            return []
        prefix = f"{skeleton.base_model_prefix}."
        there = [f".{name}" for name in base_files.read(self.base.path).tensors]
        found = set()
        for name, _ in skeleton.named_parameters():
            inner = name.removeprefix(prefix)
            is_there = any(one.endswith(f".{inner}") for one in there)
            if not name.startswith(prefix) or not (is_there or is_in_a_block(name)):
                found.add(inner.partition(".")[0])
        return sorted(found)

    def targets(self) -> list[str]:
        """Layers that get LoRA matrices: their names, or their paths where a head's layers have the same names.

        Raises ``ConfigurationError`` for what is no linear layer of the blocks.
        """
        linear = [path for path, one in self.skeleton().named_modules() if isinstance(one, nn.Linear)]
        inside = [path for path in linear if is_in_a_block(path)]
        outside = {_name(path) for path in linear if path not in inside}
        names = sorted({_name(path) for path in inside})
        if not names:
            raise ConfigurationError(
                f"the blocks of {self.base.name} have no linear layers for LoRA ({self.config.model_type}): take "
                "--method full."
            )
        wanted = names if self.settings.target_modules is None else list(self.settings.target_modules)
        if unknown := [name for name in wanted if name not in names]:
            raise ConfigurationError(
                f"setting 'target_modules' names what is no linear layer of the blocks: {', '.join(unknown)}; those of "
                f"{self.base.name} are {', '.join(names)}."
            )
        return wanted if outside.isdisjoint(wanted) else [path for path in inside if _name(path) in wanted]


def config_of(folder: Path, head: Head, *, pad_id: int) -> PretrainedConfig:
    """A base's configuration with its head. A decoder's head is asked at the last token that is no padding."""
    config: PretrainedConfig = AutoConfig.from_pretrained(folder, local_files_only=True)
    for name, value in head.options.items():
        setattr(config, name, value)
    if facts_of(config).kind == "decoder":
        config.get_text_config().pad_token_id = pad_id
    return config


def _name(path: str) -> str:
    return path.rpartition(".")[2]


def check_language(base: Base, config: PretrainedConfig) -> None:
    """Raises ``ConfigurationError`` where next tokens cannot be learned beside a class."""
    family = facts_of(config)
    if family.kind != "decoder" or not family.ends_in_its_head:
        raise ConfigurationError(
            f"lm_coef is for decoders whose logits are what their output head gives, such as gpt2 and llama; "
            f"{base.name} is a {config.model_type}: leave it out."
        )
