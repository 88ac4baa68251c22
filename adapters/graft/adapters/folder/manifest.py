"""An adapter's files, read and checked without torch and before anything is mapped.

Only `adapter_config.json`, `adapter_model.safetensors`, `graft.json`, `reference.json` and `chat_template.jinja` belong
to an adapter, and `task.json` to one with a head. Other files of a PEFT folder (README.md, optimizer.pt,
checkpoint-500/, …) are left alone: nobody opens them.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from graft.adapters.adapter import AdapterFile
from graft.adapters.digest import sha256_of_file
from graft.adapters.errors import InvalidAdapter, Reason
from graft.adapters.folder import head, reference, soft_prompt
from graft.adapters.folder.pattern_checks import pattern_reasons
from graft.adapters.folder.peft_patterns import mapping_of, names_of
from graft.adapters.folder.record import TRAINED_FILE, TrainedRecord
from graft.adapters.folder.strict_json import read_json_object
from graft.adapters.folder.tensor_header import TensorInfo, read_tensor_header

CONFIG_FILE = "adapter_config.json"
TENSOR_FILE = "adapter_model.safetensors"
TEMPLATE_FILE = "chat_template.jinja"
"""The adapter's own chat template, where it is not the base's."""
ADAPTER_FILES = (CONFIG_FILE, TENSOR_FILE, TRAINED_FILE, reference.FILE_NAME, TEMPLATE_FILE, head.TASK_FILE)
MAX_FILE_BYTES = 8 << 30

_MAX_HEADER_BYTES = 16 << 20
_MAX_CONFIG_BYTES = 1 << 20
_PICKLED = ("adapter_model.bin", "adapter_model.pt", "adapter_model.pth", "pytorch_model.bin")


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What an adapter's files say. `rank` and `alpha` are the defaults that the patterns override per module.

    A soft prompt has `num_virtual_tokens`, and neither rank nor modules; a LoRA has none of them. What other methods
    make has none of all that. A LoRA may bring a head of `num_labels` outputs.
    """

    config: Mapping[str, object]
    tensors: Mapping[str, TensorInfo]
    rank: int
    alpha: float
    target_modules: tuple[str, ...]
    files: tuple[AdapterFile, ...]
    num_virtual_tokens: int = 0
    num_labels: int = 0

    @property
    def size_bytes(self) -> int:
        """Size of all files together."""
        return sum(file.size_bytes for file in self.files)

    @property
    def rank_pattern(self) -> Mapping[str, int]:
        """Ranks of modules that differ from `rank`."""
        return {key: int(str(rank)) for key, rank in mapping_of(self.config, "rank_pattern").items()}


def read_manifest(
    folder: Path, *, max_file_bytes: int = MAX_FILE_BYTES, sha256: Mapping[str, str] | None = None
) -> Manifest:
    """Read the adapter in `folder`. Raises InvalidAdapter with all that is wrong.

    `sha256` gives the files' hashes (64 hex digits by file name) where the caller knows them already.
    """
    folder = Path(folder)
    reasons = _folder_reasons(folder, max_file_bytes)
    if reasons:
        raise InvalidAdapter("the folder is not a usable adapter", reasons)
    config, reasons = read_json_object(folder / CONFIG_FILE, max_bytes=_MAX_CONFIG_BYTES)
    if not reasons:
        reasons = _config_reasons(config)
    tensors, tensor_reasons = read_tensor_header(folder / TENSOR_FILE, max_header_bytes=_MAX_HEADER_BYTES)
    if not tensor_reasons and not tensors:
        tensor_reasons = [Reason(field=TENSOR_FILE, problem="holds no tensor")]
    reasons += tensor_reasons
    try:
        TrainedRecord.read(folder)
    except InvalidAdapter as error:
        reasons += error.reasons
    if reasons:
        raise InvalidAdapter("the adapter's files are broken", reasons)
    return _manifest(folder, config, tensors, sha256 or {})


def _manifest(
    folder: Path, config: Mapping[str, object], tensors: Mapping[str, TensorInfo], sha256: Mapping[str, str]
) -> Manifest:
    soft, lora = soft_prompt.is_soft_prompt(config), is_lora(config)
    num_labels = head.num_labels_of(config, tensors) if lora else 0
    files = []
    for name in ADAPTER_FILES:
        path = folder / name
        if path.exists() and (num_labels or name != head.TASK_FILE):
            found = sha256.get(name) or sha256_of_file(path)
            files.append(AdapterFile(name=name, size_bytes=path.stat().st_size, sha256=found))
    return Manifest(
        config=MappingProxyType(dict(config)),
        tensors=MappingProxyType(dict(tensors)),
        rank=int(str(config["r"])) if lora else 0,
        alpha=float(str(config["lora_alpha"])) if lora else 0.0,
        target_modules=tuple(sorted(map(str, names_of(config["target_modules"])))) if lora else (),
        files=tuple(files),
        num_virtual_tokens=int(str(config["num_virtual_tokens"])) if soft else 0,
        num_labels=num_labels,
    )


def _folder_reasons(folder: Path, max_file_bytes: int) -> list[Reason]:
    if folder.is_symlink() or not folder.is_dir():
        return [Reason(field="folder", problem=f"{folder} is not a folder")]
    reasons = []
    present = {path.name: path for path in folder.iterdir()}
    for name in (CONFIG_FILE, TENSOR_FILE):
        if name not in present:
            reasons.append(_missing(name, present))
    for name in ADAPTER_FILES:
        found = present.get(name)
        if found is not None and (found.is_symlink() or not found.is_file()):
            reasons.append(Reason(field=name, problem="is a link or no regular file", remedy="copy the file itself"))
        elif found is not None and found.stat().st_size > max_file_bytes:
            problem = f"is {found.stat().st_size} bytes long; the limit is {max_file_bytes}"
            reasons.append(Reason(field=name, problem=problem))
    return reasons


def _missing(name: str, present: Collection[str]) -> Reason:
    pickled = next((other for other in _PICKLED if other in present), None)
    if name == TENSOR_FILE and pickled is not None:
        problem = f"is missing, and {pickled} is not read: it may hold a pickle, which can run code"
        return Reason(field=name, problem=problem, remedy="save the adapter with safe_serialization=True")
    return Reason(field=name, problem="is missing", remedy="give a folder that PEFT saved")


def is_lora(config: Mapping[str, object]) -> bool:
    """Whether the adapter is a LoRA, by its configuration."""
    return config.get("peft_type") == "LORA"


def _config_reasons(config: Mapping[str, object]) -> list[Reason]:
    """What is malformed in the configuration; whether it can be served is asked in `compatibility`."""
    if soft_prompt.is_soft_prompt(config):
        return list(soft_prompt.config_reasons(config))
    if config.get("peft_type") == "PREFIX_TUNING":
        problem = "prefix tuning has keys and values for every layer, which no embeddings of virtual tokens make"
        remedy = f"train with {' or '.join(soft_prompt.PEFT_TYPES[:2])}, whose virtual tokens are served, or with LORA"
        return [Reason(field=f"{CONFIG_FILE}:peft_type", problem=problem, remedy=remedy)]
    if not is_lora(config):
        return []  # refused as a whole, with what makes a LoRA of it
    problems: dict[str, str] = {}
    if not _is_count(config.get("r")):
        problems["r"] = f"{_shown(config.get('r'))} is not a positive integer"
    if not _is_number(config.get("lora_alpha")):
        problems["lora_alpha"] = f"{_shown(config.get('lora_alpha'))} is not a finite number below 1e9"
    for key, check, kind in (
        ("rank_pattern", _is_count, "positive integers"),
        ("alpha_pattern", _is_number, "finite numbers"),
    ):
        pattern = config.get(key)
        if pattern is not None and not (isinstance(pattern, Mapping) and all(map(check, pattern.values()))):
            problems[key] = f"must map module names to {kind}"
    found = [Reason(field=f"{CONFIG_FILE}:{key}", problem=problem) for key, problem in problems.items()]
    return found + [reason for reason in pattern_reasons(config) if reason.field.partition(":")[2] not in problems]


def _is_count(value: object) -> bool:
    return type(value) is int and 0 < value < 1 << 31


def _is_number(value: object) -> bool:
    # False for NaN and infinity; math.isfinite would fail on an integer beyond every float.
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e9


def _shown(value: object) -> str:
    return repr(value)[:80]
