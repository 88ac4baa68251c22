"""Reading and hashing the files of a base model's folder."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from graft.adapters.base import config as base_config
from graft.adapters.base.form_of_folder import folder_form
from graft.adapters.base.linear_modules import Shape, embedding_width, packed_shapes
from graft.adapters.digest import digest_of_bytes, digest_of_json, sha256_of_file
from graft.adapters.errors import InvalidBase, Reason
from graft.adapters.folder.strict_json import read_json_object
from graft.adapters.folder.tensor_header import TensorInfo, read_tensor_header
from graft.adapters.form import ServingForm

_log = logging.getLogger(__name__)

# The limit that the safetensors library itself sets.
_MAX_HEADER_BYTES = 100_000_000
_MAX_JSON_BYTES = 64 << 20
CONFIG = "config.json"
_WEIGHTS = "model.safetensors"
_INDEX = "model.safetensors.index.json"
_TEMPLATE, _TOKENIZER_CONFIG = "chat_template.jinja", "tokenizer_config.json"
TEMPLATE_FILES = (_TEMPLATE, _TOKENIZER_CONFIG)
"""The files that may hold a chat template."""
_TOKENIZERS = ("tokenizer.json", "tokenizer.model", "spiece.model", "vocab.json", "vocab.txt")
_TOKENIZER_FILES = (*_TOKENIZERS, "merges.txt", "special_tokens_map.json", "added_tokens.json")
_CACHE_FILE = "weights-digests.json"


@dataclass(frozen=True, kw_only=True)
class BaseFiles:
    """What config.json and the safetensors headers say; `form` is None for weights that are not quantized."""

    form: ServingForm | None
    config_digest: str
    architecture: str
    vocab_size: int
    embedding_width: int | None
    tensors: Mapping[str, TensorInfo]
    packed: Mapping[str, Shape]
    """The shapes of the layers whose weights are packed, by path."""
    size_bytes: int


def read(folder: Path) -> BaseFiles:
    """Read the folder's configuration and headers. Raises InvalidBase with all reasons."""
    if not folder.is_dir():
        raise InvalidBase(f"{folder} is not a folder")
    config, reasons = read_json_object(folder / CONFIG, max_bytes=_MAX_JSON_BYTES)
    vocab_size, architecture = _vocab_size(config), _architecture(config)
    if config and vocab_size is None:
        reasons.append(Reason(field="config.json:vocab_size", problem="is missing or no positive integer"))
    if config and architecture is None:
        reasons.append(Reason(field="config.json:architectures", problem="names no architecture"))
    weights = weight_files(folder)
    if not weights:
        remedy = "only safetensors weights are read; convert other formats first"
        reasons.append(Reason(field="*.safetensors", problem="no such file", remedy=remedy))
    if not any((folder / name).is_file() for name in _TOKENIZERS):
        reasons.append(Reason(field="tokenizer", problem=f"none of {', '.join(_TOKENIZERS)} is there"))
    named, index_reasons = _named_files(folder)
    loaded = _loaded(weights, named)
    tensors: dict[str, TensorInfo] = {}
    packed: dict[str, Shape] = {}
    for path in weights:
        found, problems = read_header(path)
        shapes, unread = packed_shapes(path, found)
        if path in loaded:
            tensors.update(found)
            packed.update(shapes)
        reasons += [*problems, *unread]
    reasons += [*index_reasons, *_missing(named, weights)]
    if reasons or vocab_size is None or architecture is None:
        raise InvalidBase(f"{folder} is not a usable base", reasons)
    size_bytes = sum(path.stat().st_size for path in weights)
    return BaseFiles(
        form=folder_form(config),
        config_digest=base_config.digest(config),
        architecture=architecture,
        vocab_size=vocab_size,
        embedding_width=embedding_width(tensors),
        tensors=tensors,
        packed=packed,
        size_bytes=size_bytes,
    )


def read_header(path: Path) -> tuple[Mapping[str, TensorInfo], list[Reason]]:
    """The tensors of one weight file, and what is wrong with its header."""
    return read_tensor_header(path, max_header_bytes=_MAX_HEADER_BYTES)


def weights_digest(folder: Path, *, cache_dir: Path | None = None) -> str:
    """Digest over every safetensors file and the index; hashes of unchanged files come from `cache_dir`."""
    return digest_of_json([[name, sha256] for name, sha256 in weight_hashes(folder, cache_dir=cache_dir).items()])


def weight_hashes(folder: Path, *, cache_dir: Path | None = None) -> dict[str, str]:
    """SHA-256 (64 hex digits) of every safetensors file, in order of names, then of the index where there is one."""
    cache = _read_cache(cache_dir)
    hashes = dict(cache)
    entries = {}
    for path in [*weight_files(folder), *(p for p in [folder / _INDEX] if p.is_file())]:
        status = path.stat()
        key = f"{path.resolve()}|{status.st_size}|{status.st_mtime_ns}"
        if key not in hashes:
            hashes[key] = sha256_of_file(path)
        entries[path.name] = hashes[key]
    if cache_dir is not None and hashes != cache:
        _write_cache(cache_dir, hashes)
    return entries


def recorded_hashes(folder: Path, *, cache_dir: Path | None = None) -> dict[str, str]:
    """SHA-256 of the files that a quantized base vouches for: config.json and the weights."""
    return {CONFIG: sha256_of_file(folder / CONFIG), **weight_hashes(folder, cache_dir=cache_dir)}


def tokenizer_digest(folder: Path) -> str:
    """Digest over the tokenizer's files; the chat template, which tokenizer_config.json may hold, stays outside."""
    entries: list[list[object]] = [
        [name, sha256_of_file(folder / name)] for name in sorted(_TOKENIZER_FILES) if (folder / name).is_file()
    ]
    config = _tokenizer_config(folder)
    entries.append([_TOKENIZER_CONFIG, {key: config[key] for key in config if key != "chat_template"}])
    return digest_of_json(entries)


def chat_template_digest(folder: Path) -> str | None:
    """Digest of the template's text; None when there is none. A list of named templates counts as its JSON."""
    path = folder / _TEMPLATE
    if path.is_file():
        return digest_of_bytes(path.read_bytes())
    template = _tokenizer_config(folder).get("chat_template")
    if template is None:
        return None
    return digest_of_bytes(template.encode()) if isinstance(template, str) else digest_of_json(template)


def weight_files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("*.safetensors") if path.is_file())


def stop_ids(folder: Path) -> tuple[int, ...]:
    """What generation stops at beside the tokenizer's end token, as the engine reads it: ``generation_config.json``, or
    ``config.json`` where that is missing.
    """
    file = folder / "generation_config.json"
    values, _ = read_json_object(file if file.is_file() else folder / CONFIG, max_bytes=_MAX_JSON_BYTES)
    found = values.get("eos_token_id")
    ids = found if isinstance(found, list) else [found]
    return tuple(one for one in ids if isinstance(one, int) and not isinstance(one, bool))


def _tokenizer_config(folder: Path) -> Mapping[str, object]:
    path = folder / _TOKENIZER_CONFIG
    if not path.is_file():
        return {}
    config, reasons = read_json_object(path, max_bytes=_MAX_JSON_BYTES)
    if reasons:
        raise InvalidBase(f"{folder} is not a usable base", reasons)
    return config


def _vocab_size(config: Mapping[str, object]) -> int | None:
    text = config.get("text_config")
    for section in (config, text if isinstance(text, Mapping) else {}):
        value = section.get("vocab_size")
        if isinstance(value, int) and not isinstance(value, bool) and value > 0:
            return value
    return None


def _architecture(config: Mapping[str, object]) -> str | None:
    names = config.get("architectures")
    return names[0] if isinstance(names, list) and names and isinstance(names[0], str) else None


def loaded_files(folder: Path) -> list[Path]:
    """What a model is loaded from: the files that the index names, else `model.safetensors`, else all.

    Some folders hold the same weights twice, once more in the names of another program.
    """
    return _loaded(weight_files(folder), _named_files(folder)[0])


def _loaded(weights: list[Path], named: set[str]) -> list[Path]:
    if not named:
        named = {_WEIGHTS} & {path.name for path in weights}
    return [path for path in weights if path.name in named] or weights


def _named_files(folder: Path) -> tuple[set[str], list[Reason]]:
    """The files that the index names, and what is wrong with it; none where there is no index."""
    path = folder / _INDEX
    if not path.is_file():
        return set(), []
    index, reasons = read_json_object(path, max_bytes=_MAX_JSON_BYTES)
    weight_map = index.get("weight_map")
    return set(map(str, weight_map.values())) if isinstance(weight_map, Mapping) else set(), reasons


def _missing(named: set[str], weights: list[Path]) -> list[Reason]:
    problem = f"is missing, but {_INDEX} names it"
    return [Reason(field=name, problem=problem) for name in sorted(named - {path.name for path in weights})]


def _read_cache(cache_dir: Path | None) -> dict[str, str]:
    if cache_dir is None:
        return {}
    # A cache that cannot be read is only slower.
    content, _ = read_json_object(cache_dir / _CACHE_FILE, max_bytes=_MAX_JSON_BYTES)
    return {key: value for key, value in content.items() if isinstance(value, str)}


def _write_cache(cache_dir: Path, hashes: Mapping[str, str]) -> None:
    """Where it cannot be written the files are hashed anew the next time, which is said."""
    temporary = cache_dir / f"{_CACHE_FILE}.{os.getpid()}"
    try:
        cache_dir.mkdir(parents=True, exist_ok=True)
        temporary.write_text(json.dumps(hashes, indent=1, sort_keys=True), encoding="utf-8")
        temporary.replace(cache_dir / _CACHE_FILE)
    except OSError as error:
        _log.warning("hashes of weights cannot be kept in %s (%s): they are computed anew", cache_dir, error.strerror)
