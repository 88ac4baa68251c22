"""A push in one call: the version and its alias, or nothing; an import is a push of the same folder."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from google.rpc import error_details_pb2

from graft.adapters.folder.reference import Reference, ReferenceRow
from graft.adapters.form import ServingForm
from graft.client.upload import upload_requests
from graft.v1 import adapter_pb2 as pb
from tests.adapters.making import TEMPLATE, make_adapter
from tests.server.api.adapters.test_adapters import answered_by, upload_parts
from tests.server.api.conftest import Server, StartServer
from tests.server.api.grpc.test_grpc import details_of


def recorded(server: Server, name: str, logprob: float, *, seed: int = 1) -> Path:
    """An adapter whose trainer recorded this log-probability for every token; served are -2, by the base -1."""
    server.script.logprob = lambda adapter, token_id: -1.0 if adapter is None else -2.0
    folder = make_adapter(server.folder / name, base=server.base, seed=seed)
    row = ReferenceRow(token_ids=tuple(range(20)), num_prompt_tokens=4, logprobs=(logprob,) * 16)
    Reference(form=ServingForm.NF4, rows=(row,)).write(folder)
    return folder


async def push(server: Server, folder: Path, **header: Any) -> pb.UploadVersionResponse:
    return await server.adapters.UploadVersion(upload_parts(folder, "joe", alias="stable", **header))


async def names(server: Server) -> list[tuple[str, int]]:
    listed = await server.adapters.ListAdapters(pb.ListAdaptersRequest())
    return [(one.adapter, one.num_versions) for one in listed.adapters]


def import_request(folder: Path, **others: Any) -> pb.ImportVersionRequest:
    return pb.ImportVersionRequest(adapter="joe", path=str(folder), **others)


async def test_one_call_registers_loads_and_moves_the_alias(server: Server) -> None:
    pushed = await push(server, recorded(server, "a", -2.0))
    assert (pushed.alias.alias, pushed.alias.version_number) == ("stable", 1) and pushed.HasField("load_time")
    assert (await answered_by(server, "joe")).version_digest == pushed.version.digest
    other = recorded(server, "b", -2.0, seed=2)
    imported = await server.adapters.ImportVersion(import_request(other, alias="stable"))
    assert imported.alias.version_number == 2 and (await answered_by(server, "joe")).version_number == 2


@pytest.mark.parametrize("way", ["push", "import"])
async def test_s2b_a_push_that_the_check_refuses_leaves_nothing(server: Server, way: str) -> None:
    folder = recorded(server, "bad", -2.5)

    async def refused() -> str:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            if way == "push":
                await push(server, folder)
            else:
                await server.adapters.ImportVersion(import_request(folder, alias="stable"))
        assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION
        return caught.value.details() or ""

    assert "joe@1 is not served as it was trained" in (said := await refused()) and "nothing of it was kept" in said
    assert await names(server) == [] and server.running.management.residency() == ()
    await push(server, recorded(server, "good", -2.0, seed=2))
    await refused()
    assert await names(server) == [("joe", 1)] and (await answered_by(server, "joe")).version_number == 1
    assert "nothing of it was kept" in await refused(), "the receipt is remembered, the version is not"


async def test_s2b_a_version_that_was_there_before_stays_and_the_message_says_how_to_delete_it(server: Server) -> None:
    folder = recorded(server, "bad", -2.5)
    await server.adapters.UploadVersion(upload_parts(folder, "joe"))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await push(server, folder)
    assert "graft adapters delete joe --version 1" in (caught.value.details() or "")
    assert await names(server) == [("joe", 1)]


async def test_an_alias_that_cannot_be_called_so_is_refused_before_the_bytes(server: Server) -> None:
    folder = recorded(server, "a", -2.0)
    code, _ = await details_of(server.adapters.UploadVersion(upload_parts(folder, "joe", alias="A b")))
    assert code is grpc.StatusCode.INVALID_ARGUMENT and await names(server) == []


def trained(folder: Path) -> Path:
    """What a trainer leaves beside an adapter: pickles, checkpoints, a pipe that nobody may open."""
    for name in ("training_args.bin", "optimizer.pt", "rng_state.pth", "scheduler.pt"):
        (folder / name).write_bytes(b"\x80\x04.")
    os.mkfifo(folder / "pipe.bin")
    (folder / "checkpoint-500").mkdir()
    shutil.copy(folder / "adapter_config.json", folder / "checkpoint-500")
    return folder


def as_a_hub_does(folder: Path) -> Path:
    """The same files behind links: `snapshots/1/NAME` leads to `blobs/N` below the same root."""
    root = folder.parent / f"{folder.name}-hub"
    (root / "blobs").mkdir(parents=True)
    (root / "snapshots" / "1").mkdir(parents=True)
    for number, path in enumerate(one for one in sorted(folder.iterdir()) if one.is_file()):
        shutil.copy(path, root / "blobs" / str(number))
        (root / "snapshots" / "1" / path.name).symlink_to(f"../../blobs/{number}")
    return root / "snapshots" / "1"


@pytest.mark.parametrize("layout", [trained, as_a_hub_does])
async def test_s5_an_import_is_a_push_of_the_same_folder(server: Server, layout: Any) -> None:
    folder = layout(make_adapter(server.folder / "up", base=server.base))
    imported = (await server.adapters.ImportVersion(import_request(folder))).version
    messages = upload_requests(folder, name="ann", allow_noop=False, allow_other_quantization=False)
    pushed = (await server.adapters.UploadVersion(messages)).version
    assert imported.digest == pushed.digest
    assert {one.name for one in imported.files} == {"adapter_config.json", "adapter_model.safetensors", "graft.json"}


async def test_s5_a_link_that_leaves_the_roots_or_leads_to_no_file_is_refused(
    start_server: StartServer, tmp_path: Path
) -> None:
    root = tmp_path / "root"
    root.mkdir()
    server = await start_server(import_roots=(root,))
    outside = make_adapter(tmp_path / "outside", base=server.base)
    for target, reason in (
        (outside / "graft.json", "leaves the folders"),
        (root, "no regular file"),
        (root / "none", "leads nowhere"),
    ):
        folder = make_adapter(root / f"a-{target.name}", base=server.base)
        (folder / "graft.json").unlink()
        (folder / "graft.json").symlink_to(target)
        code, details = await details_of(server.adapters.ImportVersion(import_request(folder)))
        assert code is grpc.StatusCode.INVALID_ARGUMENT
        assert reason in str(details[error_details_pb2.BadRequest])
    assert await names(server) == []


async def test_s5_a_file_that_the_server_may_not_read_is_named(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make_adapter(server.folder / "up", base=server.base)
    open_file = os.open

    def refused(path: Any, *others: Any, **more: Any) -> int:
        if str(path) == str(folder / "adapter_model.safetensors"):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return open_file(path, *others, **more)

    monkeypatch.setattr(os, "open", refused)
    code, details = await details_of(server.adapters.ImportVersion(import_request(folder)))
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    said = str(details[error_details_pb2.BadRequest])
    assert "adapter_model.safetensors" in said and "cannot be read (Permission denied)" in said


async def test_s8_which_template_renders_chats_is_said(server: Server) -> None:
    folder = make_adapter(server.folder / "up", base=server.base)
    (folder / "chat_template.jinja").write_text("{{ messages }}")

    async def notices(way: str) -> list[str]:
        if way == "import":
            return list((await server.adapters.ImportVersion(import_request(folder))).notices)
        messages = upload_requests(folder, name="joe", allow_noop=False, allow_other_quantization=False)
        return list((await server.adapters.UploadVersion(messages)).notices)

    own = await notices("push")
    assert len(own) == 1 and "rendered by the chat template that came with it" in own[0]
    assert await notices("import") == own
    (folder / "chat_template.jinja").write_text(TEMPLATE)
    assert await notices("push") == await notices("import") == []
    (folder / "chat_template.jinja").unlink()
    (folder / "tokenizer_config.json").write_text('{"chat_template": "{{ messages[0] }}"}')
    assert await notices("push") == await notices("import") == own
    (folder / "tokenizer_config.json").write_text('{"chat_template": [{"name": "default", "template": "ü"}]}')
    several = await notices("push")
    assert len(several) == 1 and "is several by name: that of the base tiny is used" in several[0]
    assert await notices("import") == several
    (folder / "tokenizer_config.json").write_text("[]")
    assert await notices("push") == await notices("import") == []


async def test_s11_an_adapter_is_deleted_with_all_that_it_has_where_that_is_said(server: Server) -> None:
    await push(server, recorded(server, "a", -2.0))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await server.adapters.DeleteAdapter(pb.DeleteAdapterRequest(adapter="joe"))
    assert caught.value.code() is grpc.StatusCode.ABORTED
    assert "has 1 version; say force" in (caught.value.details() or "")
    await server.adapters.DeleteAdapter(pb.DeleteAdapterRequest(adapter="joe", force=True))
    assert await names(server) == []
    assert (await details_of(server.adapters.GetAdapter(pb.GetAdapterRequest(adapter="joe"))))[0] is (
        grpc.StatusCode.NOT_FOUND
    )


async def test_a_request_id_is_done_once_and_stands_for_one_call(server: Server) -> None:
    await push(server, recorded(server, "a", -2.0))
    pin = pb.SetPinRequest(adapter="joe", version="1", pinned=True, request_id="p1")
    await server.adapters.SetPin(pin)
    await server.adapters.SetPin(pb.SetPinRequest(adapter="joe", version="1", pinned=False, request_id="p2"))
    assert (await server.adapters.SetPin(pin)).version.pinned, "the answer of the first time"
    assert not server.running.management.residency()[0].pinned, "and no second pin"
    for call in (
        server.adapters.SetPin(pb.SetPinRequest(adapter="joe", version="1", pinned=False, request_id="p1")),
        server.adapters.PrefetchVersion(pb.PrefetchVersionRequest(adapter="joe", version="1", request_id="p1")),
        server.adapters.CollectFiles(pb.CollectFilesRequest(request_id="p1")),
    ):
        assert (await details_of(call))[0] is grpc.StatusCode.ABORTED
    long = pb.SetPinRequest(adapter="joe", version="1", request_id="x" * 129)
    assert (await details_of(server.adapters.SetPin(long)))[0] is grpc.StatusCode.INVALID_ARGUMENT


async def test_files_of_deleted_versions_are_collected_and_those_of_the_engine_stay(server: Server) -> None:
    pushed = await push(server, recorded(server, "a", -2.0))
    await push(server, recorded(server, "b", -2.0, seed=2))
    local = server.folder / "data" / "local" / "versions"
    blobs = server.folder / "data" / "blobs" / "blobs"
    for path in (*local.iterdir(), *blobs.glob("??/*")):
        os.utime(path, (0, 0))
    assert (await server.adapters.CollectFiles(pb.CollectFilesRequest())).num_deleted == 0
    await server.adapters.DeleteVersion(pb.DeleteVersionRequest(adapter="joe", version="1"))
    done = await server.adapters.CollectFiles(pb.CollectFilesRequest())
    assert done.num_deleted >= 1 and done.freed_bytes > 0
    weights = next(one for one in pushed.version.files if one.name == "adapter_model.safetensors")
    assert not (blobs / weights.sha256[:2] / weights.sha256).exists()
    assert (await answered_by(server, "joe")).version_number == 2


async def test_a_failed_load_leaves_no_time_behind(server: Server) -> None:
    await server.adapters.UploadVersion(upload_parts(recorded(server, "bad", -2.5), "joe"))
    assert (await details_of(server.point("joe", "stable", "1")))[0] is grpc.StatusCode.FAILED_PRECONDITION
    assert server.metrics._load_started_at == {}


async def test_a_base_and_an_adapter_are_never_called_the_same(start_server: StartServer) -> None:
    first = await start_server()
    code, _ = await details_of(
        first.adapters.UploadVersion(upload_parts(make_adapter(first.folder / "a", base=first.base), "tiny"))
    )
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    code, _ = await details_of(
        first.adapters.UploadVersion(upload_parts(make_adapter(first.folder / "b", base=first.base), "rootstock-5m"))
    )
    assert code is grpc.StatusCode.INVALID_ARGUMENT, "a shipped base, though it is not served"
    await first.adapters.UploadVersion(upload_parts(make_adapter(first.folder / "c", base=first.base), "dates"))
    from graft.adapters.errors import AlreadyExists

    with pytest.raises(AlreadyExists, match=r"'dates' is the name of an adapter.*graft adapters delete dates"):
        await start_server(base_name="dates")
