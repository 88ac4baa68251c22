"""A decoder with a scalar head on an answer's last token, adapted: the head is learned whole, beside the adapter, and
saved with it as ``score``, as peft does.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch
from peft import TaskType
from torch import nn
from transformers import AutoConfig, AutoModelForSequenceClassification

from graft.adapters.form import ServingForm
from graft.training.adapt.adaptable import Adaptable
from graft.training.adapt.methods.through_peft import PeftMethod, inject
from graft.training.adapt.settings import AdaptSettings
from graft.training.errors import ConfigurationError
from graft.training.model.blocks import recompute
from graft.training.model.loading import load_base
from graft.training.objective.attending import Circumstances, choose_attention
from graft.training.objective.masks import decoder_of
from graft.training.parallel.distributed import Distributed
from graft.training.parallel.layout import Layout
from graft.training.runtime.device import own_device


def reward_model(
    base: Adaptable, form: ServingForm, method: PeftMethod, settings: AdaptSettings, layout: Layout
) -> nn.Module:
    """The head is drawn by the seed, also beside an adapter that is gone on from. Raises ``ConfigurationError``,
    ``InvalidBase``.
    """
    head = config_of(base)
    torch.manual_seed(settings.seed)
    device = own_device(layout.device)
    made_by = AutoModelForSequenceClassification._model_mapping[type(head)]
    model = load_base(base.path, form, device=device, model_class=made_by, config=head)
    config: Any = method.configuration(base)
    config.task_type, config.modules_to_save = TaskType.SEQ_CLS, ["score"]
    adapted = inject(model, config, base_name=base.name)
    method.begin(adapted)
    choose_attention(adapted, settings.attn_implementation, Circumstances(device=layout.device, dtype=torch.bfloat16))
    recompute(adapted, str(settings.gradient_checkpointing))
    if isinstance(layout, Distributed):
        layout.apply(adapted)
    return adapted


def config_of(base: Adaptable) -> Any:
    """The base's, with a head of one output. Raises ``ConfigurationError`` where its architecture has none."""
    config = AutoConfig.from_pretrained(base.path, local_files_only=True)
    config.num_labels = 1
    if config.pad_token_id is None:  # which tokens its class would take as a line's last: nobody looks at them
        config.pad_token_id = 0
    if type(config) not in AutoModelForSequenceClassification._model_mapping:
        raise ConfigurationError(
            f"a {config.model_type} has no class with a scalar head, which loss_type reward needs: take another base."
        )
    return config


class States(nn.Module):
    """The decoder of a reward model, whose states stand in the place of logits: what is asked of a decoder before it
    learns (``objective.packable``) can be asked of it.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.decoder = decoder_of(model).base_model

    def forward(self, **inputs: Any) -> Any:
        return SimpleNamespace(logits=self.decoder(**inputs).last_hidden_state)
