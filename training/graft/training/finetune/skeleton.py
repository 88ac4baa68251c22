"""A base with what a method trains, without a weight: from the base's configuration alone."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from graft.adapters.base.form_of_folder import folder_form
from graft.adapters.form import ServingForm
from graft.training.adapt.adaptable import Adaptable
from graft.training.adapt.method import Method
from graft.training.adapt.methods.catalog import method_of
from graft.training.adapt.settings import AdaptSettings
from graft.training.errors import ConfigurationError, first_line
from graft.training.finetune.memory import Adapted


@dataclass(frozen=True, kw_only=True)
class Skeleton:
    """On the meta device."""

    own: ServingForm | None
    """Of the folder's weights; None where they are plain."""
    base: Adaptable
    method: Method
    adapted: Adapted
    num_parameters: int
    """Of the base."""

    @classmethod
    def of(cls, folder: Path, settings: AdaptSettings) -> Self:
        """Of the folder its config.json is read. Raises ``ConfigurationError``."""
        own = folder_form(json.loads((folder / "config.json").read_text(encoding="utf-8")))
        model = _empty(folder)
        base, method = Adaptable.of_model(model, name=folder.name, path=folder), method_of(settings)
        method.check(base, own or settings.form)
        num = sum(one.numel() for one in model.parameters())
        return cls(
            own=own,
            base=base,
            method=method,
            adapted=_adapted(model, _form(own, settings), method, base, settings),
            num_parameters=num,
        )


@dataclass(frozen=True, kw_only=True)
class Frozen:
    """A base that is only asked."""

    name: str
    form: ServingForm
    num_bytes: float

    @classmethod
    def of(cls, folder: Path, form: ServingForm | None = None) -> Self:
        """Held in ``form`` where its folder's weights are plain, bf16 by default. Raises ``ConfigurationError``."""
        own = folder_form(json.loads((folder / "config.json").read_text(encoding="utf-8")))
        held = own or form or ServingForm.BF16
        return cls(name=folder.name, form=held, num_bytes=Adapted(model=_empty(folder), form=held).base_bytes)

    def __str__(self) -> str:
        return f"{self.name} in {self.form} ({self.num_bytes / 1e9:.2f} GB)"


def _empty(folder: Path) -> PreTrainedModel:
    """The base on the meta device."""
    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True)
        if hasattr(config, "quantization_config"):
            del config.quantization_config  # shapes are those of the plain model
        with torch.device("meta"):
            model: PreTrainedModel = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    except Exception as error:  # each architecture's configuration has checks and errors of its own
        raise ConfigurationError(f"{folder / 'config.json'} makes no decoder: {first_line(error)}") from None
    return model.requires_grad_(False)


def _adapted(
    model: PreTrainedModel, form: ServingForm, method: Method, base: Adaptable, settings: AdaptSettings
) -> Adapted:
    with torch.device("meta"):
        whole = method.inject(model, base, seed=0)
    inside = {id(one) for one in model.parameters()}
    return Adapted(
        model=model,
        form=form,
        num_outside=sum(one.numel() for one in whole.parameters() if one.requires_grad and id(one) not in inside),
        num_ahead=method.num_ahead,
        optim=settings.optim,
        is_double_quantized=settings.bnb_4bit_use_double_quant,
    )


def _form(own: ServingForm | None, settings: AdaptSettings) -> ServingForm:
    """The folder's own where its weights are quantized already."""
    if own in (ServingForm.INT8, ServingForm.INT4):
        return ServingForm.BF16  # as which they are computed with
    if own is not None:
        return own
    return settings.form
