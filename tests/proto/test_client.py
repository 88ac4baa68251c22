"""The client against a real gRPC server: what goes over the wire and what comes back."""

from __future__ import annotations

import hashlib
import inspect
from pathlib import Path

import grpc
import pytest

from graft.client import AsyncClient, Client, IncompleteStream, Unavailable
from graft.client.upload import CHUNK_BYTES
from graft.v1 import inference_pb2
from tests.proto.scripted_server import ANSWERER, Adapters, Script, chunk


def adapter_folder(folder: Path, *, weights: bytes = b"weights") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "adapter_config.json").write_text("{}")
    (folder / "adapter_model.safetensors").write_bytes(weights)
    (folder / "loss.png").write_bytes(b"not part of the adapter")
    return folder


def test_an_answer_says_who_gave_it_and_what_it_used(client: Client) -> None:
    result = client.generate("the prompt")
    assert (result.text, result.finish_reason) == ("one", "stop")
    assert result.answerer == ANSWERER
    assert (result.usage.prompt_tokens, result.usage.completion_tokens) == (3, 5)
    assert result.choices[0].token_ids == tuple(map(ord, "one"))


async def test_the_asyncio_client_gives_the_same_answer(client: Client, async_client: AsyncClient) -> None:
    assert await async_client.generate("the prompt") == client.generate("the prompt")
    chunks = [piece async for piece in async_client.stream("the prompt")]
    assert [piece.text for piece in chunks] == ["on", "e"]


@pytest.mark.parametrize(
    ("prompt", "kind"),
    [("text", "text"), ([{"role": "user", "content": "hello"}], "chat"), ([1, 2], "token_ids")],
)
def test_every_kind_of_prompt_arrives(client: Client, script: Script, prompt: object, kind: str) -> None:
    client.generate(prompt, model="dates", max_tokens=7, stop="\n", seed=0, json_schema={"type": "object"})
    [request] = script.requests
    assert request.prompt.WhichOneof("content") == kind
    assert request.model == "dates"
    assert (request.sampling.max_tokens, list(request.sampling.stop)) == (7, ["\n"])
    assert request.sampling.HasField("seed"), "zero is a seed"
    assert not request.sampling.HasField("temperature"), "what is not given is left to the server"
    assert request.sampling.json_schema == '{"type": "object"}'


@pytest.mark.parametrize("prompt", [[], [{"role": "user"}], [1, "two"]])
def test_a_malformed_prompt_is_refused_before_the_wire(client: Client, script: Script, prompt: object) -> None:
    with pytest.raises(ValueError, match=r"prompt|turn"):
        client.generate(prompt)
    assert not script.requests


def test_an_unknown_sampling_option_is_refused_by_name(client: Client) -> None:
    with pytest.raises(TypeError, match="temprature"):
        client.generate("x", temprature=1)


def test_choices_are_kept_apart(client: Client, script: Script) -> None:
    script.stream = lambda context: iter(
        [
            inference_pb2.GenerateResponse(answerer=ANSWERER),
            chunk("a", choice=1),
            chunk("b", choice=0, finish=2),
            chunk("c", choice=1, finish=1, usage=True),
        ]
    )
    result = client.generate("x", num_choices=2)
    assert [(choice.text, choice.finish_reason) for choice in result.choices] == [("b", "length"), ("ac", "stop")]


def test_a_stream_that_breaks_off_does_not_pass_for_an_answer(client: Client, script: Script) -> None:
    script.stream = lambda context: iter([inference_pb2.GenerateResponse(answerer=ANSWERER), chunk("half")])
    with pytest.raises(IncompleteStream):
        client.generate("x")


def test_an_error_in_mid_stream_is_raised_after_the_text(client: Client, script: Script) -> None:
    def stream(context: grpc.ServicerContext):
        yield inference_pb2.GenerateResponse(answerer=ANSWERER)
        yield chunk("half")
        context.abort(grpc.StatusCode.UNAVAILABLE, "the engine ended")

    script.stream = stream
    seen = []
    with pytest.raises(Unavailable, match="the engine ended"):
        for piece in client.stream("x"):
            seen.append(piece.text)
    assert seen == ["half"]


def endless(context: grpc.ServicerContext):
    yield inference_pb2.GenerateResponse(answerer=ANSWERER)
    while context.is_active():
        yield chunk("x")


def test_closing_the_stream_cancels_the_request(client: Client, script: Script) -> None:
    script.stream = endless
    stream = client.stream("x")
    assert next(stream).text == "x"
    stream.close()
    assert script.cancelled.wait(5)


async def test_closing_the_asyncio_stream_cancels_the_request(async_client: AsyncClient, script: Script) -> None:
    script.stream = endless
    stream = async_client.stream("x")
    assert (await anext(stream)).text == "x"
    await stream.aclose()
    assert script.cancelled.wait(5)


async def test_every_kind_of_call_carries_the_token(target: str, script: Script, tmp_path: Path) -> None:
    with Client(target, token="ann-7Q==") as client:
        client.generate("x")
        client.adapters()
        client.push_adapter(adapter_folder(tmp_path), name="dates")
    async with AsyncClient(target, token="ann-7Q==") as client:
        await client.generate("x")
        await client.adapters()
        await client.push_adapter(adapter_folder(tmp_path), name="dates")
    assert script.tokens == ["Bearer ann-7Q=="] * 8  # two pages of adapters


def test_without_a_token_none_is_sent(client: Client, script: Script) -> None:
    client.generate("x")
    assert script.tokens == [None]


@pytest.mark.parametrize("kind", [Client, AsyncClient])
@pytest.mark.parametrize("token", ["", "s3cret\n", "s3cret x", "s3crèt"])
async def test_what_cannot_be_a_token_is_said_and_not_repeated(kind: type, token: str) -> None:
    with pytest.raises(ValueError, match="a token has letters, digits") as caught:
        kind("localhost:1", token=token)
    assert "s3" not in str(caught.value)


def test_all_pages_are_read(client: Client) -> None:
    assert [adapter.adapter for adapter in client.adapters()] == [name for page in Adapters.PAGES for name in page]


def test_a_push_sends_sizes_and_digests_then_the_bytes(client: Client, script: Script, tmp_path: Path) -> None:
    weights = bytes(range(256)) * (CHUNK_BYTES // 100)
    push = client.push_adapter(adapter_folder(tmp_path / "a", weights=weights), name="dates", alias="stable")
    header, *chunks, alias = script.requests
    described = {file.name: file for file in header.header.files}
    assert set(described) == {"adapter_config.json", "adapter_model.safetensors"}, "training's other outputs stay"
    for name, content in (("adapter_config.json", b"{}"), ("adapter_model.safetensors", weights)):
        sent = [message.chunk.data for message in chunks if message.chunk.file == name]
        assert b"".join(sent) == content
        assert max(map(len, sent)) <= CHUNK_BYTES
        assert described[name].size_bytes == len(content)
        assert described[name].sha256 == hashlib.sha256(content).hexdigest()
    assert header.header.request_id
    assert (alias.alias, alias.version) == ("stable", "sha256:cd")
    assert (push.version.number, push.load_seconds) == (3, 0.125)


async def test_the_asyncio_client_pushes(async_client: AsyncClient, script: Script, tmp_path: Path) -> None:
    push = await async_client.push_adapter(adapter_folder(tmp_path / "a"), name="dates")
    assert (push.version.number, push.alias) == (3, None)
    assert script.requests[0].HasField("header")


async def test_an_alias_is_moved_where_an_earlier_server_left_it(
    client: Client, async_client: AsyncClient, script: Script
) -> None:
    pushes = [
        client.import_adapter("/adapters/dates", name="dates", alias="stable"),
        await async_client.import_adapter("/adapters/dates", name="dates", alias="stable"),
    ]
    assert [push.alias and push.alias.alias for push in pushes] == ["stable", "stable"]
    assert [(one.alias, one.version) for one in script.requests[1::2]] == [("stable", "sha256:cd")] * 2


def test_a_folder_that_is_no_adapter_names_what_is_missing(client: Client, tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(FileNotFoundError, match=r"adapter_model\.safetensors"):
        client.push_adapter(tmp_path, name="dates")


async def test_files_in_memory_go_over_the_wire_as_a_folder_does(
    client: Client, async_client: AsyncClient, script: Script, tmp_path: Path
) -> None:
    files = {
        "adapter_config.json": b"{}",
        "adapter_model.safetensors": memoryview(bytes(range(256)) * (CHUNK_BYTES // 100)),
        "chat_template.jinja": bytearray(b"{{ messages }}"),
    }
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    client.push_adapter(tmp_path, name="dates", alias="")
    from_folder = list(script.requests)
    for push in (client.push_adapter(files, name="dates"), await async_client.push_adapter(files, name="dates")):
        assert push.version.number == 3
    for number in (1, 2):
        sent = script.requests[number * len(from_folder) : (number + 1) * len(from_folder)]
        sent[0].header.request_id = from_folder[0].header.request_id
        assert sent == from_folder


def test_files_in_memory_that_are_no_adapter_are_named(client: Client, script: Script) -> None:
    with pytest.raises(
        ValueError, match=r"no adapter_model\.safetensors is among them; 'loss\.png' is none of adapter_c"
    ):
        client.push_adapter({"adapter_config.json": b"{}", "loss.png": b""}, name="dates")
    assert not script.requests


def test_waiting_ends_when_the_server_is_ready(client: Client, script: Script) -> None:
    script.ready_after = 2
    assert client.wait_ready(timeout=10).ready
    assert len(script.requests) == 3


def test_waiting_in_vain_says_for_whom_and_how_long(script: Script) -> None:
    with (
        Client("127.0.0.1:1") as client,
        pytest.raises(Unavailable, match=r"127\.0\.0\.1:1 was not ready within 0\.3 s"),
    ):
        client.wait_ready(timeout=0.3)


def test_both_clients_offer_the_same_calls() -> None:
    """Names, parameters and defaults agree; only `async` and iterators differ."""

    def calls(kind: type) -> dict[str, list[tuple[str, object, object]]]:
        found = {}
        for name, function in inspect.getmembers(kind, inspect.isfunction):
            if not name.startswith("_") or name == "__init__":
                parameters = inspect.signature(function).parameters.values()
                found[name] = [(p.name, p.kind, p.default) for p in parameters]
        return found

    assert calls(Client) == calls(AsyncClient)


@pytest.mark.parametrize("num_choices", [0, 10**9])
def test_a_number_of_choices_out_of_bounds_is_refused(client: Client, num_choices: int) -> None:
    with pytest.raises(ValueError, match=f"num_choices is {num_choices}: ask for 1 to 1024"):
        client.generate("x", num_choices=num_choices)
