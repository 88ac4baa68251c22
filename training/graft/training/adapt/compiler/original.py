"""What is compiled: the files of a PEFT folder, checked before a weight of the base is loaded."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import PeftConfig, PeftType
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from graft.adapters.adapter import UNKNOWN_LINEAGE, AdapterFile, Lineage, Parent, Provenance, version_digest
from graft.adapters.base.base import Base
from graft.adapters.digest import sha256_of_file
from graft.adapters.errors import GraftError
from graft.adapters.folder.adaptable import NOT_LINEAR
from graft.adapters.folder.manifest import ADAPTER_FILES, CONFIG_FILE, TEMPLATE_FILE, TENSOR_FILE
from graft.adapters.folder.peft_patterns import expressions_of
from graft.adapters.folder.record import TrainedRecord
from graft.adapters.folder.reference import Reference
from graft.adapters.folder.strict_json import read_json_object
from graft.adapters.form import ServingForm
from graft.training.adapt.patterns import WrongPattern, tried
from graft.training.errors import ConfigurationError, first_line

_MAX_CONFIG_BYTES = 1 << 20
_PROMPTS = {"PROMPT_TUNING", "MULTITASK_PROMPT_TUNING", "P_TUNING", "PREFIX_TUNING", "CPT", "CARTRIDGE"}


@dataclass(frozen=True, kw_only=True)
class Original:
    """An adapter as it was trained."""

    folder: Path
    config: PeftConfig
    tensors: Mapping[str, Tensor]
    trained: TrainedRecord | None
    """What its trainer vouches for; None of a foreign one."""
    reference: Reference | None

    @classmethod
    def read(cls, folder: Path, base: Base, form: ServingForm) -> Original:
        """Raises ``ConfigurationError`` with all that keeps it from being compiled for the base."""
        values, reasons = read_json_object(folder / CONFIG_FILE, max_bytes=_MAX_CONFIG_BYTES)
        wrong = [f"{one.field} {one.problem}" for one in reasons] or list(_method_problems(values))
        tensors: Mapping[str, Tensor] = {}
        try:
            tensors = _tensors(folder / TENSOR_FILE)
        except (OSError, SafetensorError) as error:
            wrong.append(f"{TENSOR_FILE} cannot be read ({first_line(error)})")
        wrong += _number_problems(tensors)
        trained = reference = None
        try:
            trained, reference = TrainedRecord.read(folder), Reference.read(folder, vocab_size=base.vocab_size)
        except GraftError as error:
            wrong.append(first_line(error))
        wrong += [] if trained is None else _base_problems(trained, base, form)
        if wrong:
            raise ConfigurationError(f"{folder} cannot be compiled: {'; '.join(wrong)}.")
        return cls(folder=folder, config=_config(folder, values), tensors=tensors, trained=trained, reference=reference)

    @property
    def method(self) -> str:
        """As its users call it."""
        kind = getattr(self.config, "init_lora_weights", None)
        if getattr(self.config, "use_dora", False):
            return "DORA"
        return kind.upper() if isinstance(kind, str) else str(self.config.peft_type.value)

    def check_patterns(self, names: Sequence[str]) -> None:
        """Whether peft finds among a base's modules those that are adapted: it waits for any pattern, however long.

        Raises ``ConfigurationError``.
        """
        config = self.config.to_dict()
        inner = config.get("feedforward_modules")
        expressions = [*expressions_of(config), *([(inner, True)] if isinstance(inner, str) else [])]
        try:
            tried(expressions, names)
        except WrongPattern as error:
            fields = "target_modules, rank_pattern and their like"
            raise ConfigurationError(f"{self.folder}: {fields} in {CONFIG_FILE} {error}.") from None

    def lineage(self, base: Base, form: ServingForm) -> Lineage:
        """That of the training, and this adapter as the parent of what is compiled from it."""
        known = self.trained.lineage if self.trained else UNKNOWN_LINEAGE
        paths = [self.folder / name for name in ADAPTER_FILES if (self.folder / name).is_file()]
        digest = version_digest(
            files=[
                AdapterFile(name=one.name, size_bytes=one.stat().st_size, sha256=sha256_of_file(one)) for one in paths
            ],
            base=self.trained.base if self.trained else base.identity,
            form=self.trained.form if self.trained else form,
            provenance=self.provenance,
            lineage=known,
        )
        return Lineage(**{**vars(known), "parents": (Parent(digest=digest, weight=1.0),)})

    def copy_template(self, folder: Path) -> None:
        """By what chats with it are rendered, where that is not the base's."""
        for name in (TEMPLATE_FILE, "tokenizer_config.json"):
            if (self.folder / name).is_file():
                shutil.copyfile(self.folder / name, folder / name)

    @property
    def provenance(self) -> Provenance:
        return self.trained.provenance if self.trained else Provenance.DECLARED


def _method_problems(config: Mapping[str, Any]) -> Iterator[str]:
    method = config.get("peft_type")
    if method in _PROMPTS:
        yield (
            f"{method} trains a prompt and no weights, so there is nothing to compile: what a server takes of it is "
            "pushed as it is"
        )
    elif isinstance(method, str) and method in NOT_LINEAR:
        yield f"{method} has no linear form: {NOT_LINEAR[method]}; train one that has, such as LORA, to have it served"
    elif method not in PeftType.__members__:
        yield f"peft_type {method!r:.80} is no method that peft {_peft_version()} knows, such as LORA, LOHA or VERA"
    if config.get("alora_invocation_tokens"):
        yield "an activated LoRA (alora_invocation_tokens) applies from some tokens on only, which no matrix says"
    task = config.get("task_type")
    if task not in (None, "CAUSAL_LM"):
        yield f"task_type is {task!r:.80}, and only CAUSAL_LM is compiled: what has a head is served as it is"


_DTYPES = (torch.float64, torch.float32, torch.float16, torch.bfloat16)


def _tensors(path: Path) -> Mapping[str, Tensor]:
    if path.exists() and not path.is_file():  # a pipe would be waited for
        raise OSError("it is no regular file")
    tensors: dict[str, Tensor] = load_file(path)
    return tensors


def _number_problems(tensors: Mapping[str, Tensor]) -> Iterator[str]:
    floats = {name: one for name, one in tensors.items() if one.is_floating_point()}
    if odd := [name for name, one in floats.items() if one.dtype not in _DTYPES]:
        kind = str(floats[odd[0]].dtype).removeprefix("torch.")
        yield f"{odd[0]} is {kind}, which no method computes with: save its tensors as float32, float16 or bfloat16"
        return
    broken = [name for name, one in floats.items() if not bool(torch.isfinite(one).all())]
    if broken:
        others = f" and {len(broken) - 1} more tensors" if len(broken) > 1 else ""
        yield (
            f"{broken[0]}{others} hold numbers that are NaN or infinite: the training diverged or the file was "
            "damaged; take an earlier checkpoint"
        )


def _base_problems(trained: TrainedRecord, base: Base, form: ServingForm) -> Iterator[str]:
    if parts := trained.base.differences(base.identity):
        others = " and ".join(parts).replace("_", " ")
        yield f"it was trained on {trained.base.name}, and {base.name} differs in {others}: give that base"
    if trained.form is not form:
        yield f"it was trained on the base as {trained.form}, not as {form}: leave out --load-in-4bit and its kind"


def _config(folder: Path, values: Mapping[str, Any]) -> PeftConfig:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of keys that other versions of peft wrote
            is_loftq = values.get("init_lora_weights") == "loftq"
            config = _loftq(values) if is_loftq else PeftConfig.from_pretrained(str(folder))
    except Exception as error:  # each method's configuration has checks and errors of its own
        raise ConfigurationError(
            f"{folder}: {CONFIG_FILE} makes no configuration: {first_line(error).rstrip('.')}."
        ) from None
    config.inference_mode = True
    return config


def _loftq(values: Mapping[str, Any]) -> PeftConfig:
    """Its name, given to peft, asks for the package by which a first adapter is made: it is set when all is read."""
    config: PeftConfig = PeftConfig.from_peft_type(**{**values, "init_lora_weights": True})
    config.init_lora_weights = "loftq"
    return config


def _peft_version() -> str:
    from importlib.metadata import version

    return version("peft")
