"""What is written of a base's training, for programs (``training.json``) and for people (the model card): names and
digests, and no path of the machine that it was trained on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import nn

from graft.adapters.base.hub_id import shown
from graft.adapters.digest import digest_of_json
from graft.training.job.lineage import code_version, data_digest
from graft.training.pretrain.assembly import Assembly
from graft.training.pretrain.settings import PretrainSettings

PATHS = ("text", "validation", "tokenizer", "model", "teacher")
"""Settings that name files and folders."""
_WEIGHTS = (".safetensors", ".bin", ".json", ".model", ".jinja")
"""Files of a model's or a tokenizer's folder that decide what it is."""
_PIPELINES = {"decoder": "text-generation", "encoder": "fill-mask", "encoder-decoder": "text2text-generation"}


def origin(settings: PretrainSettings, text_digests: Sequence[str]) -> dict[str, Any]:
    """The content of ``training.json`` but for what is measured; the text may be another by now. Raises ``OSError``."""
    kept = {name: value for name, value in asdict(settings).items() if value is not None}
    named = {name: _named(kept[name]) for name in PATHS if name in kept}
    held_out = [] if settings.validation is None else [settings.validation]
    folders = {name: kept[name] for name in ("tokenizer", "model", "teacher") if name in kept}
    return {
        "settings": kept | named,
        "data": [_file(*one) for one in zip(settings.text, text_digests, strict=True)],
        "validation": [_file(path, data_digest(Path(path))) for path in held_out],
        "folders": {
            name: {"name": _named(path), "digest": _folder_digest(Path(path))} for name, path in folders.items()
        },
        "code_version": code_version(),
    }


def card(name: str, assembly: Assembly, model: nn.Module, metrics: Mapping[str, float]) -> str:
    """The model card: what it is, what it was trained on and how, and what it knows of held-out text."""
    settings = assembly.settings
    num_parameters = sum(parameter.numel() for parameter in model.parameters())
    texts = ", ".join(Path(path).name for path in settings.text)
    start = "from random weights" if settings.model is None else f"from {shown(Path(settings.model))}"
    lines = [
        "---",
        f"pipeline_tag: {_PIPELINES[assembly.family.kind]}",
        "library_name: transformers",
        "---",
        "",
        f"# {name}",
        "",
        f"A {assembly.family.name} of {num_parameters / 1e6:.1f} million parameters, trained by `graft pretrain` "
        f"{start} on {texts} with the objective `{assembly.objective_name}`, rows of {settings.max_length} tokens, "
        f"{settings.optim} at {settings.learning_rate:g}. Every setting, the digests of the data and the version of "
        "the code are in `training.json`.",
    ]
    if metrics and settings.validation is not None:
        told = {key: value for key, value in metrics.items() if key != "validation_overlap"}
        found = ", ".join(f"{key.replace('_', ' ')} {value:.4g}" for key, value in told.items())
        shared = metrics.get("validation_overlap", 0.0)
        known = f"of which {shared:.1%} stands in what it was trained on" if shared else "which it was not trained on"
        lines += ["", f"On {Path(settings.validation).name}, {known}: {found}."]
    return "\n".join(lines) + "\n"


def _named(value: str | Sequence[str]) -> Any:
    return shown(Path(value).absolute()) if isinstance(value, str) else [_named(one) for one in value]


def _file(path: str, digest: str) -> dict[str, str]:
    return {"file": _named(path), "digest": digest}


def _folder_digest(folder: Path) -> str:
    files = sorted(path for path in folder.iterdir() if path.is_file() and path.suffix in _WEIGHTS)
    return digest_of_json({path.name: data_digest(path) for path in files if path.name != "training.json"})
