"""A PEFT folder as the messages of one upload."""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import uuid
from collections.abc import Iterator
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
    folder: Path, *, name: str, alias: str = "", allow_noop: bool, allow_other_quantization: bool
) -> Iterator[pb.UploadVersionRequest]:
    """The header with sizes and SHA-256s, then the bytes in chunks of 1 MiB.

    Raises OSError at once where a file is missing or cannot be read.
    """
    paths = adapter_files(folder)
    template, is_text = _template(folder)
    files = [_described(path) for path in paths]
    beside = template if is_text and _TEMPLATE not in {path.name for path in paths} else b""
    if beside:
        sha256 = hashlib.sha256(beside).hexdigest()
        files.append(pb.AdapterFile(name=_TEMPLATE, size_bytes=len(beside), sha256=sha256))
    header = pb.UploadHeader(
        adapter=name,
        alias=alias,
        chat_template_digest=f"sha256:{hashlib.sha256(template).hexdigest()}" if template else "",
        files=files,
        allow_noop=allow_noop,
        allow_other_quantization=allow_other_quantization,
        request_id=uuid.uuid4().hex,
    )
    return _messages(header, paths, beside)


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


def _messages(header: pb.UploadHeader, paths: list[Path], template: bytes) -> Iterator[pb.UploadVersionRequest]:
    yield pb.UploadVersionRequest(header=header)
    for path, data in _chunks(paths):
        yield pb.UploadVersionRequest(chunk=pb.UploadChunk(file=path.name, data=data))
    for begin in range(0, len(template), CHUNK_BYTES):
        chunk = pb.UploadChunk(file=_TEMPLATE, data=template[begin : begin + CHUNK_BYTES])
        yield pb.UploadVersionRequest(chunk=chunk)


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
    for path, data in _chunks(paths):
        yield base_pb2.UploadBaseRequest(chunk=pb.UploadChunk(file=path.name, data=data))


def _chunks(paths: list[Path]) -> Iterator[tuple[Path, bytes]]:
    for path in paths:
        with path.open("rb") as file:
            while data := file.read(CHUNK_BYTES):
                yield path, data


def _described(path: Path) -> pb.AdapterFile:
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        return pb.AdapterFile(name=path.name, size_bytes=file.tell(), sha256=sha256)
