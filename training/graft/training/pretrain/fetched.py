"""Models and tokenizers of a hub that a pretraining names, as folders."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from graft.adapters.base.hub import Hub
from graft.adapters.base.hub_id import HubId
from graft.training.pretrain.settings import PretrainSettings

_WITH_WEIGHTS = ("model", "teacher")


def fetched(settings: PretrainSettings, hub: Hub, *, weights: bool = True) -> PretrainSettings:
    """The settings with the folder in the hub's cache for each ``organisation/name`` or ``organisation/name@revision``;
    a folder of such a name here comes first. Without ``weights``, only what a plan reads is fetched.

    Raises NotFound saying why the hub does not give it, StoreFull.
    """
    folders: dict[str, Any] = {}
    for setting in ("tokenizer", *_WITH_WEIGHTS):
        value = getattr(settings, setting)
        name = None if value is None else HubId.parse(value)
        if name is None:
            continue
        if Path(value).is_dir():
            hub.say_shadowed(name)
        else:
            fetch = hub.model if weights and setting in _WITH_WEIGHTS else hub.tokenizer
            folders[setting] = str(fetch(name))
    return replace(settings, **folders)
