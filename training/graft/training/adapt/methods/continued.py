"""LoRA that goes on from an adapter, whose layers, ranks and scale it has, and with whose weights it begins."""

from __future__ import annotations

import hashlib
from pathlib import Path

from peft import LoraConfig, PeftConfig, PeftModel, get_peft_model_state_dict, set_peft_model_state_dict
from safetensors import SafetensorError
from safetensors.torch import load_file

from graft.adapters.folder.head import part_of
from graft.training.adapt.adaptable import Adaptable
from graft.training.adapt.method import Method, Route, Way
from graft.training.adapt.methods.through_peft import FILES, PeftMethod
from graft.training.adapt.settings import AdaptSettings
from graft.training.errors import ConfigurationError, first_line

USES = frozenset(("lora_dropout",))


def continued(settings: AdaptSettings, start: str) -> Method:
    """``start`` is the folder."""
    folder = Path(start)

    def configuration(base: Adaptable) -> PeftConfig:
        config = _config(folder)
        config.inference_mode, config.lora_dropout = False, settings.lora_dropout
        config.base_model_name_or_path = None  # it is said anew, and peft warns of another
        return config

    def way(base: Adaptable) -> Way:
        config = _config(folder)
        return Way(route=Route.AS_IS, rank=max([config.r, *config.rank_pattern.values()]))

    return PeftMethod(
        name="lora",
        uses=USES,
        configuration=configuration,
        way=way,
        begin=lambda model: _fill(model, folder),
    )


def digest_of(start: str) -> str:
    """What the training begins with, wherever it lies. Raises ``ConfigurationError``."""
    found = hashlib.sha256()
    for name in FILES:
        try:
            found.update(hashlib.sha256((Path(start) / name).read_bytes()).digest())
        except OSError as error:
            raise ConfigurationError(f"setting 'start': {start} cannot be read: {first_line(error)}.") from None
    return found.hexdigest()


def _config(folder: Path) -> LoraConfig:
    """Raises ``ConfigurationError``."""
    try:
        config = PeftConfig.from_pretrained(str(folder), local_files_only=True)
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise ConfigurationError(f"setting 'start': {folder} is no PEFT folder: {first_line(error)}.") from None
    if (
        not isinstance(config, LoraConfig)
        or config.use_dora
        or config.modules_to_save
        or config.trainable_token_indices
    ):
        raise ConfigurationError(
            f"setting 'start': {folder} is not plain LoRA, from which alone a training goes on: give another, or leave "
            "it out."
        )
    return config


def _fill(model: PeftModel, folder: Path) -> None:
    """A new head stays as it was drawn. Raises ``ConfigurationError`` where a tensor has no place, or a place no
    tensor.
    """
    try:
        tensors = load_file(folder / FILES[1])
    except (OSError, SafetensorError) as error:
        raise ConfigurationError(f"setting 'start': {folder}: {first_line(error)}.") from None
    places = get_peft_model_state_dict(model, save_embedding_layers=False)
    drawn = {name: one for name, one in places.items() if part_of(name) is not None}
    if strange := sorted(tensors.keys() ^ (places.keys() - drawn.keys())):
        raise ConfigurationError(
            f"setting 'start': {folder} does not fit the base: {len(strange)} tensors have no counterpart, such as "
            f"{strange[0]}."
        )
    begun = {name: one.to(places[name].dtype) for name, one in tensors.items()}
    set_peft_model_state_dict(model, {**drawn, **begun})
