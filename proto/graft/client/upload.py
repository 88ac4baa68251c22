"""A PEFT folder, or what it would hold, as the messages of one upload."""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from google.protobuf.message import Message

from graft.v1 import adapter_pb2 as pb
from graft.v1 import base_pb2

CHUNK_BYTES = 1 << 20
# The config and the weights make an adapter. Where the trainer left them, its record says where the adapter comes from,
# and its reference what it says, so that the server can show that it computes the same. Its own chat template is what
# chats with it are rendered by, and the record of its task says what its head's outputs are called.
REQUIRED_FILES = ("adapter_config.json", "adapter_model.safetensors")
OPTIONAL_FILES = ("graft.json", "reference.json", "chat_template.jinja", "task.json")
_TEMPLATE = "chat_template.jinja"

InMemory = Mapping[str, bytes | bytearray | memoryview]
"""An adapter's files by name, which are sent from where they are. Nobody may change them before the call has ended."""


@dataclass(frozen=True, kw_only=True)
class _File:
    described: pb.AdapterFile
    chunks: Callable[[], Iterator[bytes]]


def adapter_files(folder: Path) -> list[Path]:
    """The files of `folder` that make the adapter; training's other outputs stay behind.

    Raises FileNotFoundError, naming every file that is missing.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is not a folder")
    missing = [name for name in REQUIRED_FILES if not (folder / name).is_file()]
    if missing:
        raise FileNotFoundError(f"{folder} is not a PEFT adapter: it has no {' and no '.join(missing)}")
    return [folder / name for name in (*REQUIRED_FILES, *OPTIONAL_FILES) if (folder / name).is_file()]


def upload_requests(
    source: Path | InMemory, *, name: str, alias: str = "", allow_noop: bool, allow_other_quantization: bool
) -> Iterator[pb.UploadVersionRequest]:
    """The header with sizes and SHA-256s, then the bytes in chunks of 1 MiB.

    Raises OSError at once where a file is missing or cannot be read, ValueError for files in memory that are not an
    adapter's.
    """
    files, template = _of_folder(source) if isinstance(source, Path) else _in_memory(source)
    header = pb.UploadHeader(
        adapter=name,
        alias=alias,
        chat_template_digest=f"sha256:{hashlib.sha256(template).hexdigest()}" if template else "",
        files=[file.described for file in files],
        allow_noop=allow_noop,
        allow_other_quantization=allow_other_quantization,
        request_id=uuid.uuid4().hex,
    )
    return _messages(header, files)


def _of_folder(folder: Path) -> tuple[list[_File], bytes]:
    """What is sent of it, and its chat template."""
    files = [_File(described=_described(path), chunks=partial(_read, path)) for path in adapter_files(folder)]
    template, is_text = _template(folder)
    if template and is_text and _TEMPLATE not in {file.described.name for file in files}:
        files.append(_buffered(_TEMPLATE, template))
    return files, template


def _in_memory(given: InMemory) -> tuple[list[_File], bytes]:
    known = (*REQUIRED_FILES, *OPTIONAL_FILES)
    wrong = [f"no {name} is among them" for name in REQUIRED_FILES if name not in given]
    wrong += [f"{name!r} is none of {', '.join(known)}" for name in given if name not in known]
    if wrong:
        raise ValueError(f"these files are no PEFT adapter: {'; '.join(wrong)}")
    return [_buffered(name, given[name]) for name in known if name in given], bytes(given.get(_TEMPLATE, b""))


def _template(folder: Path) -> tuple[bytes, bool]:
    """The adapter's chat template, and whether it is one: several by name are their canonical JSON, and not sent."""
    template, config = folder / _TEMPLATE, folder / "tokenizer_config.json"
    found: Any = None
    with contextlib.suppress(OSError, ValueError):
        if template.is_file():
            return template.read_bytes(), True
        if config.is_file():
            values = json.loads(config.read_bytes())
            found = values.get("chat_template") if isinstance(values, dict) else None
        if found is None or isinstance(found, str):
            return (found or "").encode(), True
        text = json.dumps(found, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
        return text.encode(), False
    return b"", False


def to_bytes(message: Message) -> bytes:
    """As it goes over the wire: by the message's own class, whichever that is."""
    return message.SerializeToString()


def _messages(header: pb.UploadHeader, files: list[_File]) -> Iterator[pb.UploadVersionRequest]:
    yield pb.UploadVersionRequest(header=header)
    for file in files:
        for data in file.chunks():
            yield pb.UploadVersionRequest(chunk=pb.UploadChunk(file=file.described.name, data=data))


def upload_base_requests(folder: Path, *, name: str) -> Iterator[base_pb2.UploadBaseRequest]:
    """The header with sizes and SHA-256s, then the bytes in chunks of 1 MiB.

    Raises OSError at once where the folder holds no base or cannot be read.
    """
    paths = sorted(path for path in folder.iterdir() if path.is_file() and _BASE_FILE.fullmatch(path.name))
    for needed in ("config.json", ".safetensors"):
        if not any(path.name.endswith(needed) for path in paths):
            raise FileNotFoundError(f"{folder} is not a base: it has no {needed.removeprefix('.')} file")
    files = [_described(path) for path in paths]
    header = base_pb2.UploadBaseHeader(name=name, files=files, request_id=uuid.uuid4().hex)
    return _base_messages(header, paths)


# What the server takes; licences, pickles and other makers' files stay behind.
_BASE_FILE = re.compile(
    r"(config|generation_config|tokenizer|tokenizer_config|special_tokens_map|added_tokens|vocab|training|graft_base|graft_pruned)\.json"
    r"|model[\w.-]*\.safetensors(\.index\.json)?|tokenizer\.model|spiece\.model|(merges|vocab)\.txt|chat_template\.jinja"
    r"|README\.md",
    re.ASCII,
)


def _base_messages(header: base_pb2.UploadBaseHeader, paths: list[Path]) -> Iterator[base_pb2.UploadBaseRequest]:
    yield base_pb2.UploadBaseRequest(header=header)
    for path in paths:
        for data in _read(path):
            yield base_pb2.UploadBaseRequest(chunk=pb.UploadChunk(file=path.name, data=data))


def _read(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while data := file.read(CHUNK_BYTES):
            yield data


def _described(path: Path) -> pb.AdapterFile:
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        return pb.AdapterFile(name=path.name, size_bytes=file.tell(), sha256=sha256)


def _buffered(name: str, data: bytes | bytearray | memoryview) -> _File:
    view = memoryview(data).cast("B")
    described = pb.AdapterFile(name=name, size_bytes=len(view), sha256=hashlib.sha256(view).hexdigest())
    return _File(described=described, chunks=partial(_sliced, view))


def _sliced(view: memoryview) -> Iterator[bytes]:
    for begin in range(0, len(view), CHUNK_BYTES):
        yield bytes(view[begin : begin + CHUNK_BYTES])
