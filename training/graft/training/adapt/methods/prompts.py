"""Vectors before each row, the base as it is: prompt tuning (Lester et al. 2021, arXiv:2104.08691), P-tuning, which has
a network make them (Liu et al. 2021, arXiv:2103.10385), multitask prompt tuning, a shared prompt times a product for
the task (Wang et al. 2023, arXiv:2303.02861), and prefix tuning: keys and values for every layer (Li & Liang 2021,
arXiv:2101.00190).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from peft import (
    MultitaskPromptTuningConfig,
    PeftConfig,
    PeftModel,
    PrefixTuningConfig,
    PromptEncoderConfig,
    PromptTuningConfig,
    PromptTuningInit,
)
from peft.tuners.multitask_prompt_tuning import MultitaskPromptEmbedding
from torch import Tensor, nn

from graft.training.adapt.adaptable import Adaptable
from graft.training.adapt.method import Method, Route, Way
from graft.training.adapt.methods.through_peft import PeftMethod
from graft.training.adapt.settings import AdaptSettings
from graft.training.errors import ConfigurationError

_SERVED = Way(route=Route.PROMPT)


def prompt_tuning(settings: AdaptSettings) -> Method:
    def configuration(base: Adaptable) -> PromptTuningConfig:
        text = settings.prompt_tuning_init_text
        begun = PromptTuningInit.SAMPLE_VOCAB if text is None else PromptTuningInit.TEXT
        return PromptTuningConfig(
            num_virtual_tokens=settings.num_virtual_tokens,
            prompt_tuning_init=begun,
            prompt_tuning_init_text=text,
            tokenizer_name_or_path=None if text is None else str(base.path),
        )

    return _prompts("prompt_tuning", configuration, settings, "prompt_tuning_init_text")


def p_tuning(settings: AdaptSettings) -> Method:
    def configuration(base: Adaptable) -> PromptEncoderConfig:
        return PromptEncoderConfig(
            num_virtual_tokens=settings.num_virtual_tokens,
            encoder_hidden_size=settings.encoder_hidden_size or base.width,
            encoder_reparameterization_type=settings.encoder_reparameterization_type,
        )

    uses = ("encoder_hidden_size", "encoder_reparameterization_type")
    return _prompts("p_tuning", configuration, settings, *uses)


def multitask_prompt_tuning(settings: AdaptSettings) -> Method:
    """Of one task: what several share is learned where their rows are."""

    def configuration(base: Adaptable) -> MultitaskPromptTuningConfig:
        return MultitaskPromptTuningConfig(num_virtual_tokens=settings.num_virtual_tokens, num_tasks=1)

    return _prompts("multitask_prompt_tuning", configuration, settings)


def prefix_tuning(settings: AdaptSettings) -> Method:
    def configuration(base: Adaptable) -> PrefixTuningConfig:
        if settings.gradient_checkpointing != "none":
            raise ConfigurationError(
                "blocks that are computed again see no prefix: prefix_tuning goes without gradient_checkpointing."
            )
        return PrefixTuningConfig(
            num_virtual_tokens=settings.num_virtual_tokens,
            prefix_projection=settings.prefix_projection,
            encoder_hidden_size=settings.encoder_hidden_size or base.width,
        )

    why = "no engine takes keys and values that no token has; prompt_tuning and p_tuning are served"
    way = Way(route=Route.NONE, why=why)
    return _prompts("prefix_tuning", configuration, settings, "encoder_hidden_size", "prefix_projection", way=way)


def _prompts(
    name: str,
    configuration: Callable[[Adaptable], PeftConfig],
    settings: AdaptSettings,
    *uses: str,
    way: Way = _SERVED,
) -> Method:
    def checked(base: Adaptable) -> PeftConfig:
        room = base.num_positions
        if room is not None and settings.num_virtual_tokens >= room:
            raise ConfigurationError(
                f"setting 'num_virtual_tokens' has the value {settings.num_virtual_tokens}, and {base.name} has {room} "
                "positions in all: lower it, so that rows have room behind it."
            )
        return configuration(base)

    return PeftMethod(
        name=name,
        uses=frozenset(("num_virtual_tokens", *uses)),
        configuration=checked,
        way=lambda base: way,
        packs=False,
        begin=_begin,
        num_ahead=settings.num_virtual_tokens,
    )


@torch.no_grad()
def _begin(model: PeftModel) -> None:
    config, encoder = model.peft_config["default"], model.prompt_encoder["default"]
    _Rows(num_ahead=0 if isinstance(config, PrefixTuningConfig) else config.num_virtual_tokens).watch(model)
    if isinstance(encoder, MultitaskPromptEmbedding):  # a task begins as what is shared, which begins as tokens
        encoder.prefix_task_cols.fill_(1)
        encoder.prefix_task_rows.fill_(1)
        table = model.get_input_embeddings()
        places = torch.randint(table.num_embeddings, (len(encoder.embedding.weight),), device=table.weight.device)
        encoder.embedding.weight.copy_(table(places))


class _Rows:
    """Whoever calls the model gives rows and gets logits of their tokens: of the vectors before them none knows."""

    def __init__(self, *, num_ahead: int) -> None:
        self._num_ahead = num_ahead
        self._are_ahead = False

    def watch(self, model: PeftModel) -> None:
        model.register_forward_pre_hook(self._enter, with_kwargs=True)
        model.register_forward_hook(self._leave, always_call=True)
        model.get_output_embeddings().register_forward_pre_hook(self._leave_out)

    def _enter(self, model: PeftModel, args: Any, inputs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        """A row stands in a line of its own, with padding behind it: so the decoder's own mask and positions are right,
        which are made once the vectors are there. Switched off, the model is its base, and nothing stands before a row.
        """
        if model._adapters_disabled:
            return args, inputs
        self._are_ahead = True
        kept = {name: one for name, one in inputs.items() if name in ("input_ids", "use_cache")}
        if isinstance(model.active_peft_config, MultitaskPromptTuningConfig):
            ids = inputs["input_ids"]
            kept["task_ids"] = torch.zeros(len(ids), dtype=torch.long, device=ids.device)
        return args, kept

    def _leave(self, model: PeftModel, args: Any, output: Any) -> None:
        self._are_ahead = False

    def _leave_out(self, head: nn.Module, args: tuple[Tensor]) -> tuple[Tensor] | None:
        """peft's own generation, in which every token is given by itself, does not come in by the model."""
        return (args[0][:, self._num_ahead :],) if self._are_ahead else None
