"""A base's tokenizer read from its files, and which of them is at fault where it cannot be."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from graft.adapters.base.files import TEMPLATE_FILES
from graft.adapters.chat.template import fault_of
from graft.adapters.errors import InvalidBase, Reason
from graft.adapters.folder.strict_json import read_json_object

_JSON_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.json")
_MAX_JSON_BYTES = 256 << 20
_MAX_CHARACTERS = 300


def usable_tokenizer(folder: Path) -> Any:
    """What transformers makes of the folder; code in it is never run. Raises InvalidBase naming the file at fault."""
    from transformers import AutoTokenizer

    try:
        made = AutoTokenizer.from_pretrained(str(folder), trust_remote_code=False)
    except Exception as error:  # each kind of tokenizer has errors of its own
        raise InvalidBase(f"{folder} has no usable tokenizer", list(_file_reasons(folder, error))) from error
    if reasons := list(_template_reasons(folder, made.chat_template)):
        raise InvalidBase(f"{folder} has no usable chat template", reasons)
    return made


def _file_reasons(folder: Path, error: Exception) -> Iterator[Reason]:
    found = [path for name in _JSON_FILES if (path := folder / name).is_file()]
    unread = [reason for path in found for reason in read_json_object(path, max_bytes=_MAX_JSON_BYTES)[1]]
    if unread:
        yield from unread
        return
    name = found[0].name if found else "tokenizer"
    said = next(iter(str(error).strip().splitlines()), "no reason was given")[:_MAX_CHARACTERS]
    yield Reason(field=name, problem=f"makes no tokenizer ({said})", remedy="save the base's tokenizer again")


def _template_reasons(folder: Path, template: object) -> Iterator[Reason]:
    own, config = TEMPLATE_FILES
    field = own if (folder / own).is_file() else f"{config}:chat_template"
    templates = template.values() if isinstance(template, Mapping) else [template]
    for one in templates:
        if isinstance(one, str) and (fault := fault_of(one)) is not None:
            yield Reason(field=field, problem=f"does not parse ({fault})", remedy="mend the template, or remove it")
