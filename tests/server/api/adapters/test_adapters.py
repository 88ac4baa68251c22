"""Adapters over gRPC: they come in, aliases move under running requests, versions leave."""

from __future__ import annotations

import asyncio
import hashlib
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2

from graft.adapters.form import ServingForm
from graft.server.api.grpc import adapters as adapters_module
from graft.server.api.http import operations
from graft.v1 import adapter_pb2 as pb
from graft.v1 import common_pb2
from tests.adapters.making import make_adapter
from tests.server.api.conftest import Server, StartServer
from tests.server.api.grpc.test_grpc import details_of, generate_request, until


def upload_parts(folder: Path, adapter: str, **header: Any) -> Iterator[pb.UploadVersionRequest]:
    contents = {path.name: path.read_bytes() for path in sorted(folder.iterdir())}
    files = [
        pb.AdapterFile(name=name, size_bytes=len(data), sha256=hashlib.sha256(data).hexdigest())
        for name, data in contents.items()
    ]
    yield pb.UploadVersionRequest(header=pb.UploadHeader(**{"adapter": adapter, "files": files, **header}))
    for name, data in contents.items():
        for start in range(0, len(data), 1000):
            chunk = pb.UploadChunk(file=name, data=data[start : start + 1000])
            yield pb.UploadVersionRequest(chunk=chunk)


async def answered_by(server: Server, model: str) -> common_pb2.Answerer:
    messages = [one async for one in server.inference.Generate(generate_request(model))]
    return messages[0].answerer


async def test_an_uploaded_adapter_is_served_under_its_alias(server: Server) -> None:
    folder = make_adapter(server.folder / "up", base=server.base)
    version = (await server.adapters.UploadVersion(upload_parts(folder, "joe"))).version
    assert (version.name, version.number, version.rank) == ("adapters/joe/versions/1", 1, 4)
    assert version.provenance == pb.PROVENANCE_TRAINED
    assert {one.name for one in version.files} == {path.name for path in folder.iterdir()}
    moved = await server.point("joe", "stable", "1")
    assert moved.HasField("load_time") and moved.alias.version_number == 1
    answerer = await answered_by(server, "joe")
    assert (answerer.adapter, answerer.version_digest, answerer.version_number) == ("joe", version.digest, 1)
    assert not answerer.other_form
    assert not (await server.point("joe", "canary", "1")).HasField("load_time"), "it was resident"
    listed = await server.adapters.ListAdapters(pb.ListAdaptersRequest())
    assert [(one.adapter, one.num_versions, len(one.aliases)) for one in listed.adapters] == [("joe", 1, 2)]
    got = await server.adapters.GetVersion(pb.GetVersionRequest(adapter="joe", version=version.digest))
    assert got.version == version


async def test_lists_are_put_together_beside_the_event_loop(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """A page of a thousand would hold up every stream."""
    folder = make_adapter(server.folder / "up", base=server.base)
    await server.adapters.UploadVersion(upload_parts(folder, "joe"))
    threads: list[tuple[str, int]] = []

    def noting(owner: Any, name: str) -> None:
        real = getattr(owner, name)

        def noted(*args: Any) -> Any:
            threads.append((name, threading.get_ident()))
            return real(*args)

        monkeypatch.setattr(owner, name, noted)

    noting(adapters_module, "adapter_message")
    noting(adapters_module, "version_message")
    noting(operations.Models, "_model")
    await server.adapters.ListAdapters(pb.ListAdaptersRequest())
    await server.adapters.ListVersions(pb.ListVersionsRequest(adapter="joe"))
    assert (await server.http.get("/v1/models")).status_code == 200
    assert {name for name, _ in threads} == {"adapter_message", "version_message", "_model"}
    assert threading.get_ident() not in {thread for _, thread in threads}


async def test_what_was_uploaded_is_prepared_what_was_refused_or_is_anothers_is_not(server: Server) -> None:
    """The files of an import are not ours alone: they may change while they are read."""
    unfit = make_adapter(server.folder / "unfit", rank=32, base=server.base)
    await details_of(server.adapters.UploadVersion(upload_parts(unfit, "joe")))
    folder = make_adapter(server.folder / "up", base=server.base)
    await server.adapters.ImportVersion(pb.ImportVersionRequest(adapter="joe", path=str(folder)))
    assert server.script.prepared == []
    version = (await server.adapters.UploadVersion(upload_parts(folder, "joe"))).version
    assert server.script.prepared == [(version.digest, {path.name for path in folder.iterdir()})]
    assert server.metric("graft_adapter_loads_total") == 0


async def test_an_upload_says_the_same_twice(server: Server) -> None:
    folder = make_adapter(server.folder / "up", base=server.base)
    one = await server.adapters.UploadVersion(upload_parts(folder, "joe", request_id="a"))
    two = await server.adapters.UploadVersion(upload_parts(folder, "joe", request_id="a"))
    assert one == two


async def test_a_damaged_upload_is_refused_with_all_reasons_and_leaves_nothing(server: Server) -> None:
    folder = make_adapter(server.folder / "up", base=server.base)
    parts = list(upload_parts(folder, "joe"))
    parts[1].chunk.data = b"{" + parts[1].chunk.data[1:-1] + b"!"
    parts = [part for part in parts if part.chunk.file != "graft.json"]
    code, details = await details_of(server.adapters.UploadVersion(iter(parts)))
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    fields = {one.field for one in details[error_details_pb2.BadRequest].field_violations}
    assert fields == {"adapter_config.json", "graft.json"}
    assert not (await server.adapters.ListAdapters(pb.ListAdaptersRequest())).adapters
    assert not list((server.folder / "data" / "staging").rglob("*.safetensors"))


async def test_an_upload_needs_its_header_and_no_foreign_files(server: Server) -> None:
    chunk = pb.UploadVersionRequest(chunk=pb.UploadChunk(file="x", data=b"x"))
    assert (await details_of(server.adapters.UploadVersion(iter([chunk]))))[0] is grpc.StatusCode.INVALID_ARGUMENT
    folder = make_adapter(server.folder / "up", base=server.base)
    parts = list(upload_parts(folder, "joe"))
    parts[1].chunk.file = "../../evil.py"
    code, _ = await details_of(server.adapters.UploadVersion(iter(parts)))
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    huge = pb.UploadHeader(adapter="joe", files=[pb.AdapterFile(name="adapter_config.json", size_bytes=2**60)])
    code, _ = await details_of(server.adapters.UploadVersion(iter([pb.UploadVersionRequest(header=huge)])))
    assert code is grpc.StatusCode.INVALID_ARGUMENT


async def test_an_upload_that_is_refused_at_its_header_is_heard_out(server: Server) -> None:
    """grpc/grpc#36066: else its caller, on gRPC's asyncio API, would see an internal error."""
    header = pb.UploadVersionRequest(header=pb.UploadHeader(adapter="Not A Name"))
    chunk = pb.UploadVersionRequest(chunk=pb.UploadChunk(file="adapter_config.json", data=bytes(1 << 20)))
    for _ in range(20):
        code, _ = await details_of(server.adapters.UploadVersion(iter([header, *[chunk] * 20])))
        assert code is grpc.StatusCode.INVALID_ARGUMENT


async def test_a_wrong_adapter_never_reaches_the_engine(server: Server) -> None:
    folder = make_adapter(server.folder / "up", rank=32, base=server.base)
    code, details = await details_of(
        server.adapters.ImportVersion(pb.ImportVersionRequest(adapter="joe", path=str(folder)))
    )
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert details[error_details_pb2.ErrorInfo].reason == "INCOMPATIBLE_ADAPTER"
    assert server.metric("graft_adapter_loads_total") == 0


async def test_imports_come_from_allowed_folders_only(start_server: StartServer, tmp_path: Path) -> None:
    server = await start_server(import_roots=())
    request = pb.ImportVersionRequest(adapter="joe", path=str(tmp_path))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await server.adapters.ImportVersion(request)
    assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED
    assert "--import-roots" in str(caught.value.details())


async def test_a_link_does_not_lead_out_of_an_allowed_folder(start_server: StartServer, tmp_path: Path) -> None:
    inside = tmp_path / "inside"
    inside.mkdir()
    (inside / "link").symlink_to(tmp_path)
    server = await start_server(import_roots=(inside,))
    request = pb.ImportVersionRequest(adapter="joe", path=str(inside / "link"))
    assert (await details_of(server.adapters.ImportVersion(request)))[0] is grpc.StatusCode.PERMISSION_DENIED


async def test_a_swap_never_touches_running_requests(server: Server) -> None:
    """v1 streams on under its lease while v2 takes the alias and all new requests."""
    server.script.token_seconds = 0.01
    one = await server.imported("joe", seed=1)
    two = await server.imported("joe", seed=2)
    await server.point("joe", "stable", "1")
    running = aiter(server.inference.Generate(generate_request("joe", max_tokens=60)))
    first = await anext(running)
    await server.point("joe", "stable", "2")
    assert (await answered_by(server, "joe")).version_digest == two.digest
    rest = [message async for message in running]
    assert first.answerer.version_digest == one.digest
    assert {message.text for message in [first, *rest]} == {one.digest.removeprefix("sha256:")[:4]}
    assert rest[-1].finish_reason == common_pb2.FINISH_REASON_LENGTH
    assert server.metric("graft_requests_total", front="grpc", outcome="internal") == 0


async def test_no_stale_answer_over_many_swaps(server: Server) -> None:
    """Three versions over two slots: every new request is answered by what the alias points at."""
    versions = [await server.imported("joe", seed=seed) for seed in (1, 2, 3)]
    for swap in range(60):
        version = versions[swap % 3]
        await server.point("joe", "stable", str(version.number))
        answers = await asyncio.gather(*(answered_by(server, "joe") for _ in range(3)))
        assert {one.version_digest for one in answers} == {version.digest}
    assert server.metric("graft_adapter_evictions_total") > 50
    assert server.metric("graft_resident_versions") == 2


async def test_an_alias_moves_by_compare_and_set_and_not_before_the_load(server: Server) -> None:
    await server.imported("joe", seed=1)
    await server.imported("joe", seed=2)
    first = (await server.point("joe", "stable", "1", etag="")).alias
    code, _ = await details_of(server.point("joe", "stable", "2", etag="stale"))
    assert code is grpc.StatusCode.ABORTED
    assert server.metric("graft_adapter_loads_total") == 1, "what is lost already is not loaded"
    server.script.load_error = "bad luck"
    await server.imported("joe", seed=3)
    code, details = await details_of(server.point("joe", "stable", "3", etag=first.etag))
    assert code is grpc.StatusCode.FAILED_PRECONDITION
    assert details[error_details_pb2.ErrorInfo].reason == "LOAD_FAILED"
    server.script.load_error = None
    assert (await answered_by(server, "joe")).version_number == 1


async def test_a_deleted_version_leaves_with_its_last_lease(server: Server) -> None:
    server.script.token_seconds = 0.01
    await server.imported("joe", seed=1)
    await server.point("joe", "stable", "1")
    delete = pb.DeleteVersionRequest(adapter="joe", version="1")
    assert (await details_of(server.adapters.DeleteVersion(delete)))[0] is grpc.StatusCode.ABORTED
    running = aiter(server.inference.Generate(generate_request("joe", max_tokens=40)))
    await anext(running)
    await server.adapters.DeleteAlias(pb.DeleteAliasRequest(adapter="joe", alias="stable"))
    await server.adapters.DeleteVersion(delete)
    assert (await details_of(server.inference.Generate(generate_request("joe@1"))))[0] is grpc.StatusCode.NOT_FOUND
    assert len([one async for one in running]) == 39
    await until(lambda: server.metric("graft_resident_versions") == 0)


async def test_pins_leave_one_slot_free(server: Server) -> None:
    await server.imported("joe", seed=1)
    await server.imported("joe", seed=2)
    pinned = await server.adapters.SetPin(pb.SetPinRequest(adapter="joe", version="1", pinned=True))
    assert pinned.version.pinned and pinned.version.state == pb.RESIDENCY_STATE_RESIDENT
    code, details = await details_of(server.adapters.SetPin(pb.SetPinRequest(adapter="joe", version="2", pinned=True)))
    assert code is grpc.StatusCode.RESOURCE_EXHAUSTED and details[error_details_pb2.QuotaFailure].violations
    residency = await server.adapters.ListResidency(pb.ListResidencyRequest())
    assert residency.num_slots == 2 and sorted(one.pinned for one in residency.versions) == [False, True]


async def test_a_version_may_be_named_ahead_of_its_use(server: Server) -> None:
    await server.imported("joe", seed=1)
    ahead = pb.PrefetchVersionRequest(adapter="joe", version="1")
    assert not (await server.adapters.PrefetchVersion(ahead)).resident
    async with asyncio.timeout(10):
        while not (await server.adapters.PrefetchVersion(ahead)).resident:
            await asyncio.sleep(0.01)
    await server.point("joe", "stable", "1")
    assert (await server.adapters.PrefetchVersion(pb.PrefetchVersionRequest(adapter="joe", version="stable"))).resident
    unknown = pb.PrefetchVersionRequest(adapter="joe", version="7")
    assert (await details_of(server.adapters.PrefetchVersion(unknown)))[0] is grpc.StatusCode.NOT_FOUND
    nothing = pb.PrefetchVersionRequest(adapter="joe")
    assert (await details_of(server.adapters.PrefetchVersion(nothing)))[0] is grpc.StatusCode.INVALID_ARGUMENT


async def test_another_form_is_served_only_where_it_was_allowed(server: Server) -> None:
    folder = make_adapter(server.folder / "int8", base=server.base, form=ServingForm.INT8)
    request = pb.ImportVersionRequest(adapter="joe", path=str(folder))
    assert (await details_of(server.adapters.ImportVersion(request)))[0] is grpc.StatusCode.INVALID_ARGUMENT
    request.allow_other_quantization = True
    await server.adapters.ImportVersion(request)
    answerer = await answered_by(server, "joe@1")
    assert answerer.other_form and answerer.form == common_pb2.SERVING_FORM_NF4


async def test_a_restarted_engine_has_its_adapters_again(server: Server) -> None:
    await server.imported("joe", seed=1)
    await server.point("joe", "stable", "1")
    server.script.engines[0].die()
    await until(lambda: len(server.script.engines) == 2 and server.running.serving.readiness.ready)
    assert len(server.script.engines[1].loaded_adapters) == 1
    assert (await answered_by(server, "joe")).adapter == "joe"


@pytest.mark.parametrize(
    "call",
    [
        lambda adapters: adapters.SetAlias(pb.SetAliasRequest()),
        lambda adapters: adapters.GetAdapter(pb.GetAdapterRequest()),
        lambda adapters: adapters.SetAlias(
            pb.SetAliasRequest(adapter="joe", alias="stable", version="1", request_id="x" * 200)
        ),
        lambda adapters: adapters.ListAdapters(pb.ListAdaptersRequest(page_size=-1)),
        lambda adapters: adapters.ListAdapters(pb.ListAdaptersRequest(page_token="junk")),
    ],
    ids=["alias", "adapter", "request-id", "page-size", "page-token"],
)
async def test_incomplete_calls_name_their_fields(server: Server, call: Any) -> None:
    code, details = await details_of(call(server.adapters))
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert details[error_details_pb2.BadRequest].field_violations
