"""Versions added up on the server: a version of its own, that names its parts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import grpc
import pytest

from graft.adapters.form import ServingForm
from graft.client import AsyncClient
from graft.v1 import adapter_pb2 as pb
from tests.adapters.making import make_adapter, make_tensors
from tests.server.api.adapters.test_adapters import answered_by, upload_parts
from tests.server.api.conftest import Server, StartServer
from tests.server.api.grpc.test_grpc import details_of


async def pushed(server: Server, name: str, **options: Any) -> pb.AdapterVersion:
    options = {"base": server.base} | options
    folder = make_adapter(server.folder / f"{name}-folder", **options)
    return (await server.adapters.UploadVersion(upload_parts(folder, name))).version


async def refusal(server: Server, *given: tuple[str, str, float]) -> str:
    """What the server says against a sum."""
    call = server.adapters.MergeVersions(pb.MergeVersionsRequest(adapter="both", parts=parts(*given)))
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await call
    assert error.value.code() in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.FAILED_PRECONDITION)
    return f"{error.value.details()} {await details_of(call)}"


def parts(*given: tuple[str, str, float]) -> list[pb.MergePart]:
    return [pb.MergePart(adapter=adapter, version=version, weight=weight) for adapter, version, weight in given]


async def test_a_sum_is_a_version_with_parents(server: Server) -> None:
    first = await pushed(server, "joe")
    second = await pushed(server, "ann", seed=2, rank=3, tensors=make_tensors(3, seed=2, names=("mlp.up_proj",)),
                          config={"target_modules": ["up_proj"]})  # fmt: skip
    await server.point("ann", "canary", "1")
    request = pb.MergeVersionsRequest(
        adapter="both", parts=parts(("joe", "1", 0.7), ("ann", "canary", -0.3)), alias="stable", request_id="once"
    )
    response = await server.adapters.MergeVersions(request)
    version = response.version
    assert (version.adapter, version.number, version.rank) == ("both", 1, 4)
    assert [(one.digest, one.weight) for one in version.lineage.parents] == [(first.digest, 0.7), (second.digest, -0.3)]
    assert (version.base_digest, version.form, version.provenance) == (first.base_digest, first.form, first.provenance)
    assert sorted(version.target_modules) == ["down_proj", "q_proj", "up_proj"]
    assert response.alias.version_digest == version.digest and response.HasField("load_time")
    assert (await answered_by(server, "both")).version_digest == version.digest
    again = await server.adapters.MergeVersions(request)
    assert again.version == version and len((await server.adapters.ListVersions(
        pb.ListVersionsRequest(adapter="both"))).versions) == 1  # fmt: skip
    got = await server.adapters.GetVersion(pb.GetVersionRequest(adapter="both", version="1"))
    assert got.version == version, "as the catalog keeps it"


async def test_ranks_add_up_where_layers_are_shared(server: Server) -> None:
    await pushed(server, "joe")
    await pushed(server, "ann", seed=2, rank=3)
    async with AsyncClient(f"127.0.0.1:{server.grpc_port}") as client:
        push = await client.merge_adapters([("joe", 1, 0.5), ("ann", 1, 0.5)], name="both")
    assert push.version.rank == 7 and push.alias is None


async def test_a_stated_base_stays_a_stated_one(server: Server) -> None:
    await pushed(server, "joe")
    await pushed(server, "ann", seed=2, base=None)
    merged = await server.adapters.MergeVersions(
        pb.MergeVersionsRequest(adapter="both", parts=parts(("joe", "1", 1), ("ann", "1", 1)))
    )
    assert merged.version.provenance == pb.PROVENANCE_DECLARED


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ([("joe", "1", 1.0)], ["from 2 to 16 add up"]),
        ([("joe", "1", 0.0), ("joe", "", 1.0)], ["parts[0].weight", "is 0", "parts[1].version", "is empty"]),
        ([("joe", "1", float("nan")), ("joe", "1", 1e9)], ["is nan", "is 1e+09", "at most 1000"]),
    ],
)
async def test_what_is_no_sum(server: Server, given: list[tuple[str, str, float]], words: list[str]) -> None:
    told = await refusal(server, *given)
    assert all(word in told for word in words)


async def test_versions_of_two_forms_do_not_add_up(start_server: StartServer, tmp_path: Path) -> None:
    server = await start_server()
    await pushed(server, "joe")
    folder = make_adapter(server.folder / "other", base=server.base, form=ServingForm.BF16, seed=2)
    await server.adapters.UploadVersion(upload_parts(folder, "ann", allow_other_quantization=True))
    told = await refusal(server, ("joe", "1", 1), ("ann", "1", 1))
    assert "ann@1: was trained on the base as bf16, joe@1 on it as nf4" in told


async def test_a_rank_above_the_servers_is_refused(server: Server) -> None:
    await pushed(server, "joe", rank=12)
    await pushed(server, "ann", seed=2, rank=12)
    told = await refusal(server, ("joe", "1", 1), ("ann", "1", 1))
    assert "rank 24 is above this server's limit of 16" in told
