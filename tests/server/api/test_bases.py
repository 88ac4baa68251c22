"""Bases come in over the wire, are checked, and are found by name when a server starts on the same data."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from google.rpc import error_details_pb2

from graft.adapters.base.file_names import check_base_files
from graft.adapters.catalog import versions as version_writes
from graft.adapters.errors import NotFound, StoreFull
from graft.client.upload import upload_base_requests
from graft.server.registry.base_choice import choose_base
from graft.v1 import adapter_pb2, base_pb2, base_pb2_grpc
from tests.adapters.making import make_base
from tests.server.api.conftest import Server
from tests.server.api.grpc.test_grpc import details_of


async def upload(server: Server, messages: Iterator[base_pb2.UploadBaseRequest]) -> base_pb2.RegisteredBase:
    return (await base_pb2_grpc.BaseServiceStub(server.channel).UploadBase(messages)).base


async def listed(server: Server) -> dict[str, bool]:
    found = await base_pb2_grpc.BaseServiceStub(server.channel).ListBases(base_pb2.ListBasesRequest())
    return {base.name: base.served for base in found.bases}


async def test_an_uploaded_base_is_chosen_by_its_name(server: Server, tmp_path: Path) -> None:
    folder = make_base(tmp_path / "other", seed=7).path
    base = await upload(server, upload_base_requests(folder, name="oak"))
    again = await upload(server, upload_base_requests(folder, name="oak"))
    assert base == again and not base.served
    assert await listed(server) == {server.base.name: True, "oak": False}
    registered = await server.running.catalog.read(lambda catalog: catalog.bases())
    chosen = choose_base("oak", registered, data=tmp_path)
    assert chosen.digest == base.digest and chosen.path.is_relative_to(server.settings.data_path / "bases")


async def test_what_is_no_base_is_refused_and_leaves_nothing(server: Server, tmp_path: Path) -> None:
    folder = make_base(tmp_path / "other", seed=7).path
    header, *chunks = upload_base_requests(folder, name="oak")

    async def refused(messages: list[base_pb2.UploadBaseRequest]) -> str:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await upload(server, iter(messages))
        assert caught.value.code() in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.FAILED_PRECONDITION)
        return caught.value.details() or ""

    assert "header" in await refused(chunks)
    assert "declared but not sent" in await refused([header, *chunks[:-1]])
    script = base_pb2.UploadBaseRequest()
    script.CopyFrom(header)
    script.header.files.add(name="../model.py", size_bytes=1, sha256="0" * 64)
    assert "refused" in await refused([script, *chunks])
    config = folder / "config.json"
    values = json.loads(config.read_text())
    config.write_text(json.dumps({key: value for key, value in values.items() if key != "architectures"}))
    assert "not a usable base" in await refused(list(upload_base_requests(folder, name="oak")))
    assert await listed(server) == {server.base.name: True}
    registered = await server.running.catalog.read(lambda catalog: catalog.bases())
    with pytest.raises(NotFound):
        choose_base("oak", registered, data=tmp_path)
    assert not list((server.settings.data_path / "bases").glob("*"))


async def test_names_and_bases_belong_to_each_other(server: Server, tmp_path: Path) -> None:
    folder = make_base(tmp_path / "other", seed=7).path

    async def refused(name: str) -> str:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await upload(server, upload_base_requests(folder, name=name))
        return caught.value.details() or ""

    assert "another base is called" in await refused(server.base.name)
    await upload(server, upload_base_requests(folder, name="oak"))
    assert "here already, under the name 'oak'" in await refused("beech")
    config = folder / "config.json"
    same = json.loads(config.read_text())
    config.write_text(json.dumps({**same, "transformers_version": "9.0"}))
    assert "its files are not" in await refused("oak")
    config.write_text(json.dumps({**same, "rope_theta": 5.0}))
    assert "another base is called 'oak'" in await refused("oak")
    assert await listed(server) == {server.base.name: True, "oak": False}


async def test_what_is_wrong_with_an_upload_is_said_of_a_base(server: Server, tmp_path: Path) -> None:
    header, *chunks = upload_base_requests(make_base(tmp_path / "other", seed=7).path, name="oak")
    foreign = base_pb2.UploadBaseRequest(chunk=adapter_pb2.UploadChunk(file="evil.py", data=b"x"))
    for messages in ([header, *chunks[:-1]], [header, foreign]):
        code, details = await details_of(base_pb2_grpc.BaseServiceStub(server.channel).UploadBase(iter(messages)))
        assert code is grpc.StatusCode.INVALID_ARGUMENT
        assert details[error_details_pb2.ErrorInfo].reason == "INVALID_BASE"
        assert "adapter" not in str(details[error_details_pb2.BadRequest])


async def test_a_base_that_cannot_be_registered_leaves_no_folder(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_base(tmp_path / "other", seed=7).path
    keep_base = version_writes._keep_base

    def full(*args: object) -> None:
        raise StoreFull("the disk that holds the catalog is full")

    monkeypatch.setattr(version_writes, "_keep_base", full)
    with pytest.raises(grpc.aio.AioRpcError, match="is full"):
        await upload(server, upload_base_requests(folder, name="oak"))
    assert not list((server.settings.data_path / "bases").iterdir())
    monkeypatch.setattr(version_writes, "_keep_base", keep_base)
    await upload(server, upload_base_requests(folder, name="oak"))
    assert await listed(server) == {server.base.name: True, "oak": False}


async def test_a_base_is_not_called_as_an_adapter_is(server: Server, tmp_path: Path) -> None:
    await server.imported("dates", seed=1)
    with pytest.raises(grpc.aio.AioRpcError, match="'dates' is the name of an adapter") as caught:
        await upload(server, upload_base_requests(make_base(tmp_path / "other", seed=7).path, name="dates"))
    assert caught.value.code() is grpc.StatusCode.ALREADY_EXISTS
    assert not list((server.settings.data_path / "bases").iterdir())


async def test_a_request_id_of_one_base_is_no_others(server: Server, tmp_path: Path) -> None:
    def messages(seed: int, name: str) -> Iterator[base_pb2.UploadBaseRequest]:
        header, *chunks = upload_base_requests(make_base(tmp_path / name / str(seed), seed=seed).path, name=name)
        header.header.request_id = "r1"
        yield from (header, *chunks)

    first = await upload(server, messages(7, "oak"))
    assert first.config_digest.startswith("sha256:")
    with pytest.raises(grpc.aio.AioRpcError, match="request_id r1 was used for another call"):
        await upload(server, messages(8, "beech"))
    assert await listed(server) == {server.base.name: True, "oak": False}


async def test_too_many_files_or_bytes_are_refused_before_they_come(server: Server) -> None:
    for files, problem in ((1025, "1025 files"), (1, "bytes in all")):
        message = base_pb2.UploadBaseRequest(header=base_pb2.UploadBaseHeader(name="oak"))
        for number in range(files):
            message.header.files.add(name=f"model-{number}.safetensors", size_bytes=1 << 62, sha256="0" * 64)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await upload(server, iter([message]))
        assert problem in (caught.value.details() or "")


def test_the_client_sends_what_the_server_takes(tmp_path: Path) -> None:
    """Of what lies in folders of a model hub."""
    base = (
        "README.md added_tokens.json chat_template.jinja config.json generation_config.json graft_base.json "
        "graft_pruned.json merges.txt model-00001-of-00002.safetensors model-00002-of-00002.safetensors "
        "model.safetensors.index.json spiece.model special_tokens_map.json tokenizer.json tokenizer.model "
        "tokenizer_config.json training.json vocab.json vocab.txt"
    )
    others = ".gitattributes LICENSE modeling_oak.py optimizer.pt pytorch_model.bin oak.gguf consolidated.safetensors"
    for name in f"{base} {others}".split():
        (tmp_path / name).write_text("{}")
    header = next(upload_base_requests(tmp_path, name="oak")).header
    sent = {file.name: file.size_bytes for file in header.files}
    check_base_files(sent, max_bytes=1 << 20)
    assert set(sent) == set(base.split())


def test_a_folder_without_weights_is_not_sent(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(FileNotFoundError, match="is not a base: it has no safetensors file"):
        upload_base_requests(tmp_path, name="oak")
