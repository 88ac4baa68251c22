"""`/v1/files` as the unmodified `openai` package asks for it, and as others do."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from tests.server.api.conftest import Server, StartServer

ROWS = b'{"messages": []}\n' * 3
TENANTS = '{"of-acme": "acme", "of-beta": "beta"}'


async def uploaded(server: Server, content: bytes = ROWS, name: str = "rows.jsonl", **others: Any) -> Any:
    return await server.openai.files.create(file=(name, content), purpose="fine-tune", **others)


def blobs(server: Server) -> set[str]:
    return {path.name for path in (server.folder / "data/blobs/blobs").glob("??/*")}


def form(**parts: tuple[str | None, bytes]) -> dict[str, Any]:
    return {"files": list(parts.items())}


async def refused(server: Server, status: int, code: str, **request: Any) -> dict[str, Any]:
    answer = await server.http.post("/v1/files", **request)
    assert answer.status_code == status, answer.text
    error = answer.json()["error"]
    assert error["code"] == code
    return dict(error)


async def test_a_file_comes_back_as_it_was_sent(server: Server) -> None:
    content = os.urandom(3_000_000) + b"\r\n--not the boundary\r\n\r\n"
    file = await uploaded(server, content, "Zeilen ä 1.jsonl")
    assert (file.bytes, file.purpose, file.object, file.status) == (len(content), "fine-tune", "file", "processed")
    assert file.filename == "Zeilen ä 1.jsonl" and file.id.startswith("file-") and file.expires_at is None
    assert await server.openai.files.retrieve(file.id) == file
    assert (await server.openai.files.content(file.id)).read() == content
    assert blobs(server) == {hashlib.sha256(content).hexdigest()}
    assert not list((server.folder / "data/file-staging").glob("*/*/*")), "nothing is left of the upload"


async def test_what_the_types_say_is_what_comes(server: Server) -> None:
    """Parsed strictly: openai's models take anything."""
    file = await uploaded(server)
    raw = (await server.http.get(f"/v1/files/{file.id}")).json()
    assert openai.types.FileObject.model_validate(raw, strict=True) == file
    assert set(raw) == set(openai.types.FileObject.model_fields)


async def test_lists_go_on_where_they_ended_also_while_files_go(server: Server) -> None:
    made = [(await uploaded(server, b"%d" % number)).id for number in range(5)]
    assert [one.id async for one in server.openai.files.list()] == made[::-1]
    page = await server.openai.files.list(limit=2, order="asc")
    assert [one.id for one in page.data] == made[:2] and page.has_more
    seen = []
    async for one in server.openai.files.list(limit=2, order="asc"):
        seen.append(one.id)
        assert (await server.openai.files.delete(one.id)).deleted
    assert seen == made and [one async for one in server.openai.files.list()] == []
    assert [one async for one in server.openai.files.list(purpose="batch")] == []


async def test_a_deleted_file_is_gone(server: Server) -> None:
    file = await uploaded(server)
    gone = await server.openai.files.delete(file.id)
    assert (gone.id, gone.object, gone.deleted) == (file.id, "file", True)
    for call in (server.openai.files.retrieve, server.openai.files.content, server.openai.files.delete):
        with pytest.raises(openai.NotFoundError, match=f"there is no file '{file.id}'") as caught:
            await call(file.id)
        assert caught.value.code == "resource_not_found"


async def test_a_file_may_say_when_it_goes(server: Server) -> None:
    file = await uploaded(server, expires_after={"anchor": "created_at", "seconds": 3600})
    assert file.expires_at == file.created_at + 3600


async def test_nothing_of_another_tenant_is_shown(start_server: StartServer, tmp_path: Path) -> None:
    (tmp_path / "tenants.json").write_text(TENANTS)
    server = await start_server(tenants_file=tmp_path / "tenants.json")
    acme, beta = (server.openai.with_options(api_key=f"of-{name}") for name in ("acme", "beta"))
    file = await acme.files.create(file=("a.jsonl", ROWS), purpose="fine-tune")
    for call in (beta.files.retrieve, beta.files.content, beta.files.delete):
        with pytest.raises(openai.NotFoundError):
            await call(file.id)
    assert [one async for one in beta.files.list()] == []
    # The same bytes are one blob, and one tenant's deletion is not another's.
    other = await beta.files.create(file=("b.jsonl", ROWS), purpose="fine-tune")
    await acme.files.delete(file.id)
    assert (await beta.files.content(other.id)).read() == ROWS
    with pytest.raises(openai.AuthenticationError):
        await server.openai.with_options(api_key="nobody").files.list()


async def test_what_is_wrong_with_a_form_is_said_at_once(server: Server) -> None:
    error = await refused(
        server,
        400,
        "invalid_value",
        data={"purpose": "training", "expires_after[seconds]": "soon", "colour": "red"},
        files={"file": ("a.jsonl", ROWS)},
    )
    assert set(error["param"].split(", ")) == {"colour", "expires_after.anchor", "expires_after.seconds"}
    error = await refused(server, 400, "invalid_value", data={"purpose": "training"}, files={"file": ("a" * 256, ROWS)})
    assert set(error["param"].split(", ")) == {"purpose", "filename"}
    assert blobs(server) == set()


async def test_forms_that_are_none_are_refused(server: Server) -> None:
    purpose = (None, b"fine-tune")
    file = ("a.jsonl", ROWS)
    assert "must be multipart/form-data" in (await refused(server, 400, "invalid_value", json={}))["message"]
    cases = (
        ("is missing", form(purpose=purpose)),
        ("was sent as a text", form(purpose=purpose, file=(None, ROWS))),
        ("was sent as a file", form(purpose=("p.txt", b"fine-tune"), file=file)),
        ("is empty", form(purpose=purpose, file=("a.jsonl", b""))),
        ("is given twice", {"files": [("purpose", purpose), ("purpose", purpose), ("file", file)]}),
        ("is given twice", {"files": [("purpose", purpose), ("file", file), ("file", file)]}),
        ("the limit of a text in a form", form(purpose=(None, b"x" * 5_000), file=file)),
        ("more than 32 fields", {"files": [(f"f{one}", purpose) for one in range(33)]}),
    )
    for words, request in cases:
        assert words in (await refused(server, 400, "invalid_value", **request))["message"]
    kind = {"content-type": "multipart/form-data; boundary=x"}
    start = b'--x\r\ncontent-disposition: form-data; name="file"; filename="a"\r\n\r\n'
    for words, body in (
        ("ends before the form does", start + b"abc"),
        ("is no form", b"nonsense"),
        ("without a name", b"--x\r\ncontent-disposition: form-data\r\n\r\nabc\r\n--x--\r\n"),
        ("is no form", b"--x\r\ncontent-type: " + b"a" * 5_000 + b"\r\n\r\nabc\r\n--x--\r\n"),
    ):
        error = await refused(server, 400, "invalid_value", content=body, headers=kind)
        assert words in error["message"], error
    assert blobs(server) == set()


async def test_a_form_may_come_in_any_order_and_in_any_pieces(server: Server) -> None:
    """curl writes fields as they were given; a network cuts where it likes."""
    request = httpx.Request("POST", "http://x", files=[("file", ("a.jsonl", ROWS)), ("purpose", (None, b"evals"))])
    body = request.read()

    async def pieces() -> Any:
        for at in range(0, len(body), 7):
            yield body[at : at + 7]

    answer = await server.http.post(
        "/v1/files", content=pieces(), headers={"content-type": request.headers["content-type"]}
    )
    assert answer.status_code == 200 and answer.json()["purpose"] == "evals"
    assert (await server.http.get(f"/v1/files/{answer.json()['id']}/content")).content == ROWS


async def test_a_file_that_is_too_large_leaves_nothing(start_server: StartServer) -> None:
    server = await start_server(max_file_mib=1)
    await uploaded(server, bytes(1 << 20))
    with pytest.raises(openai.BadRequestError, match=f"beyond {1 << 20} bytes"):
        await uploaded(server, bytes((1 << 20) + 1))
    with pytest.raises(openai.APIStatusError, match=f"a file may have {1 << 20}") as caught:
        await uploaded(server, bytes(3 << 20))
    assert caught.value.status_code == 413
    assert len(blobs(server)) == 1


@pytest.mark.parametrize(("where", "status"), [("before", 413), ("behind", 413), ("header", 400)])
async def test_a_body_without_end_is_refused(start_server: StartServer, where: str, status: int) -> None:
    """In pieces, so that nothing announces how much it is; none of it is the file's."""
    server = await start_server(max_file_mib=1)

    async def body() -> AsyncIterator[bytes]:
        if where != "before":
            end = b"x: " if where == "header" else b"\r\nx\r\n--b--\r\n"
            yield b'--b\r\ncontent-disposition: form-data; name="purpose"\r\n' + end
        for _ in range(3):
            yield b"-" * (1 << 20) if where == "header" else b"\r\n" * (1 << 19)

    headers = {"content-type": "multipart/form-data; boundary=b"}
    answer = await server.http.post("/v1/files", content=body(), headers=headers)
    assert answer.status_code == status, answer.text


async def test_what_is_no_id_is_no_file(server: Server) -> None:
    """Also where a database could not be asked for it."""
    for file in ("%00", "file-%00", "..%2f..%2fetc", "file-" + "z" * 300, "%ed%a0%80", "ftjob-01k"):
        for answer in (await server.http.get(f"/v1/files/{file}"), await server.http.delete(f"/v1/files/{file}")):
            assert answer.status_code == 404, (file, answer.text)


async def test_a_tenant_that_keeps_enough_is_refused(start_server: StartServer) -> None:
    server = await start_server(max_files_mib=1)
    await uploaded(server, bytes(1 << 20))
    with pytest.raises(openai.RateLimitError, match="max_files_mib"):
        await uploaded(server, b"x")


async def test_a_damaged_blob_is_never_sent(server: Server) -> None:
    file = await uploaded(server)
    (blob,) = (server.folder / "data/blobs/blobs").glob("??/*")
    blob.chmod(0o644)
    blob.write_bytes(b"other")
    with pytest.raises(openai.InternalServerError, match=r"reading rows\.jsonl of file-"):
        await server.openai.files.content(file.id)


async def test_queries_are_judged(server: Server) -> None:
    answer = await server.http.get("/v1/files?limit=10001&order=up&color=red")
    assert answer.status_code == 400
    assert set(answer.json()["error"]["param"].split(", ")) == {"limit", "order", "color"}
    for query in ("after=file-1", "purpose=training"):
        assert (await server.http.get(f"/v1/files?{query}")).status_code == 400


async def test_a_path_and_a_stream_are_uploaded_as_well(server: Server, tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_bytes(ROWS)
    file = await server.openai.files.create(file=tmp_path / "rows.jsonl", purpose="fine-tune")
    assert (file.filename, file.bytes) == ("rows.jsonl", len(ROWS))
    stream = io.BytesIO(ROWS)
    stream.name = "named.jsonl"
    assert (await server.openai.files.create(file=stream, purpose="user_data")).filename == "named.jsonl"
    assert (await server.openai.files.wait_for_processing(file.id)).id == file.id
