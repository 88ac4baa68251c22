"""Exchanges that follow from one another: adapters that come, are served and go, a full server, one that ends."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from typing import Any

import grpc

from graft.v1 import adapter_pb2
from tests.tools.golden.folders import upload, upload_base, write_adapter, write_base, write_record, write_reference
from tests.tools.golden.http_rows import CHAT, TEXT
from tests.tools.golden.recorder import EMPTY, Recorder, Request, as_json

MAX_RUNNING, MAX_QUEUED, NUM_SLOTS, MAX_RANK = 4, 2, 2, 16
_ASKED = {"prompt": {"text": "abc ->"}, "sampling": {"max_tokens": 6}}
_LONG = {"prompt": {"text": "Once "}, "sampling": {"max_tokens": 1000, "ignore_eos": True}}


def adapters(recorder: Recorder, work: Path) -> None:
    """Versions 1 and 2 of `tale`, `other` and `trained`: pushed, asked, moved, pinned, deleted."""
    _ask = _Adapters(recorder)
    one, two = (write_adapter(work / f"tale-{seed}", seed=seed) for seed in (1, 2))
    _ask("list: none", "ListAdapters")
    _ask("push: stable", "UploadVersion", upload(one, "tale", alias="stable", request_id="r1"))
    _ask("push: the same call again", "UploadVersion", upload(one, "tale", alias="stable", request_id="r1"))
    _ask("push: the same folder again", "UploadVersion", upload(one, "tale"))
    _ask("push: no alias", "UploadVersion", upload(two, "tale"))
    _ask.answers("first version", "tale")
    _ask.answers("second version", "tale@2")
    _ask("get", "GetAdapter", {"adapter": "tale"})
    _ask("get: unknown", "GetAdapter", {"adapter": "nobody"})
    _ask("get: no name", "GetAdapter")
    _ask("version", "GetVersion", {"adapter": "tale", "version": "1"})
    _ask("version: unknown", "GetVersion", {"adapter": "tale", "version": "9"})
    _ask("version: no version", "GetVersion", {"adapter": "tale", "version": "x y"})
    _ask("versions: first page", "ListVersions", {"adapter": "tale", "page_size": 1})
    _ask("versions: all", "ListVersions", {"adapter": "tale"})
    _ask("versions: bad page", "ListVersions", {"adapter": "tale", "page_token": "nonsense"})
    moved = _ask("alias: moved", "SetAlias", {"adapter": "tale", "alias": "stable", "version": "2", "request_id": "r2"})
    _ask("alias: the same call again", "SetAlias",
         {"adapter": "tale", "alias": "stable", "version": "2", "request_id": "r2"})  # fmt: skip
    _ask.answers("after the move", "tale")
    _ask.answers("by the alias", "tale:stable")
    etag = moved[0]["alias"]["etag"]
    _ask("alias: lost", "SetAlias", {"adapter": "tale", "alias": "stable", "version": "1", "etag": "0"})
    _ask("alias: won", "SetAlias", {"adapter": "tale", "alias": "stable", "version": "1", "etag": etag})
    _ask("alias: exists", "SetAlias", {"adapter": "tale", "alias": "stable", "version": "1", "etag": ""})
    _ask("alias: all of the traffic", "SetAlias",
         {"adapter": "tale", "alias": "canary", "version": "2", "weight_percent": 100})  # fmt: skip
    _ask.answers("by weight", "tale")
    _ask("alias: weight", "SetAlias", {"adapter": "tale", "alias": "canary", "version": "2", "weight_percent": 101})
    _ask("alias: name", "SetAlias", {"adapter": "tale", "alias": "a b", "version": "2"})
    _ask("alias: unknown version", "SetAlias", {"adapter": "tale", "alias": "stable", "version": "7"})
    _ask("alias: deleted", "DeleteAlias", {"adapter": "tale", "alias": "canary"})
    _ask("alias: deleted again", "DeleteAlias", {"adapter": "tale", "alias": "canary"})
    _ask("list", "ListAdapters", {"page_size": 10})
    _ask("list: negative page", "ListAdapters", {"page_size": -1})
    _residency(_ask, work)
    _imports(_ask, work)
    _refused_pushes(_ask, work)


def trained(recorder: Recorder, work: Path) -> None:
    """Versions with a trainer's record: parity by its reference, another form, another base."""
    _ask = _Adapters(recorder)
    base = recorder.grpc("trained: info", "ServerService/GetInfo")[0]["base"]
    asked = {"model": "tale@1", "prompt": {"text": "abc -> "}, "continuations": ["cba and so on"]}
    scored = recorder.grpc("trained: score", "InferenceService/Score", asked)[0]["scores"][0]["tokens"]
    prompt = recorder.grpc("trained: prompt", "InferenceService/Tokenize", {"prompt": asked["prompt"]})[0]["token_ids"]
    ids, said = [*prompt, *(one["token_id"] for one in scored)], [min(0.0, one["logprob"]) for one in scored]

    right = write_record(write_adapter(work / "trained", seed=1), base)
    write_reference(right, ids, len(prompt), said)
    _ask("push: as trained", "UploadVersion", upload(right, "trained", alias="stable"))
    _ask.answers("as trained", "trained")
    _ask("version: as trained", "GetVersion", {"adapter": "trained", "version": "1"})
    wrong = write_record(write_adapter(work / "misled", seed=1), base)
    write_reference(wrong, ids, len(prompt), [one - 1.0 for one in said])
    _ask("push: says something else", "UploadVersion", upload(wrong, "misled", alias="stable"))
    _ask("get: nothing was kept", "GetAdapter", {"adapter": "misled"})
    other = write_record(write_adapter(work / "form", seed=1), base, form="bf16")
    _ask("push: another form", "UploadVersion", upload(other, "form", alias="stable"))
    allowed = upload(other, "form", alias="stable", allow_other_quantization=True)
    _ask("push: another form, allowed", "UploadVersion", allowed)
    _ask.answers("another form", "form")
    foreign = write_record(write_adapter(work / "foreign", seed=1), {**base, "tokenizer_digest": "sha256:" + "a" * 64})
    _ask("push: digests that do not fit", "UploadVersion", upload(foreign, "foreign"))
    _ask("push: another key", "UploadVersion",
         upload(write_record(write_adapter(work / "key", seed=1), base, extra=1), "key"))  # fmt: skip


def ending(recorder: Recorder, work: Path) -> None:
    """Deletions, with what is in use, and what is left."""
    _ask = _Adapters(recorder)
    _ask("delete: version in use", "DeleteVersion", {"adapter": "tale", "version": "1"})
    _ask("delete: version", "DeleteVersion", {"adapter": "tale", "version": "2", "request_id": "d1"})
    _ask("delete: version, the same call again", "DeleteVersion",
         {"adapter": "tale", "version": "2", "request_id": "d1"})  # fmt: skip
    _ask("delete: version again", "DeleteVersion", {"adapter": "tale", "version": "2"})
    _ask("delete: adapter with versions", "DeleteAdapter", {"adapter": "tale"})
    _ask("delete: adapter by force", "DeleteAdapter", {"adapter": "tale", "force": True})
    _ask("delete: unknown adapter", "DeleteAdapter", {"adapter": "tale"})
    _ask.answers("deleted", "tale")
    _ask("collect", "CollectFiles")
    _ask("list: at the end", "ListAdapters")


def bases(recorder: Recorder, work: Path, shipped: Path) -> None:
    recorder.grpc("bases: list", "BaseService/ListBases")
    same = write_base(work / "same", shipped)
    recorder.grpc(
        "bases: another under the name that is served", "BaseService/UploadBase", upload_base(same, "rootstock-5m")
    )
    other = write_base(work / "longer", shipped, rms_norm_eps=1e-05)
    recorder.grpc("bases: another", "BaseService/UploadBase", upload_base(other, "longer", request_id="b1"))
    recorder.grpc("bases: the same again", "BaseService/UploadBase", upload_base(other, "longer"))
    recorder.grpc("bases: another, its name taken", "BaseService/UploadBase", upload_base(same, "longer"))
    recorder.grpc("bases: a bad name", "BaseService/UploadBase", upload_base(same, "a b"))
    (other / "model.safetensors").write_bytes(b"nothing")
    recorder.grpc("bases: no weights", "BaseService/UploadBase", upload_base(other, "broken"))
    (other / "model.safetensors").unlink()
    recorder.grpc("bases: no weights file", "BaseService/UploadBase", upload_base(other, "broken"))
    recorder.grpc("bases: list at the end", "BaseService/ListBases")


def full(recorder: Recorder) -> None:
    """All places taken and the queue full: refused on both fronts, and served again afterwards."""
    with _streams(recorder, MAX_RUNNING + MAX_QUEUED):
        recorder.wait_for("graft_queued_requests", float(MAX_QUEUED))
        recorder.http("full: text", TEXT, {"model": "base", "prompt": "a"})
        recorder.http("full: chat stream", CHAT,
                      {"model": "base", "messages": [{"role": "user", "content": "a"}], "stream": True})  # fmt: skip
        recorder.http("full: wrong as well", TEXT, {"model": "base", "prompt": "a", "temperature": 9})
        recorder.grpc("full: Generate", "InferenceService/Generate", _ASKED)
        recorder.grpc("full: Score", "InferenceService/Score", {"prompt": {"text": "a"}, "continuations": ["b"]})
        recorder.grpc("full: Tokenize", "InferenceService/Tokenize", {"prompt": {"text": "a"}})
        recorder.http("full: /readyz", "/readyz")
    recorder.grpc("full: no longer", "InferenceService/Generate", _ASKED)


def draining(recorder: Recorder) -> None:
    """One request runs on while new ones are refused; then the server ends."""
    drained: list[dict[str, Any]] = []
    with _streams(recorder, 1):
        recorder.wait_for("graft_running_requests", 1.0)
        call = recorder.call("ServerService/Drain", {"timeout": "30s"}, "drain")
        waiting = Thread(target=lambda: drained.extend(map(as_json, call)))
        waiting.start()
        while not next(iter(recorder.call("ServerService/GetInfo", {}, "is it draining"))).draining:
            time.sleep(0.02)
        recorder.grpc("draining: info", "ServerService/GetInfo")
        recorder.grpc("draining: Generate", "InferenceService/Generate", _ASKED)
        recorder.grpc("draining: Tokenize", "InferenceService/Tokenize", {"prompt": {"text": "a"}})
        recorder.grpc("draining: ListAdapters", "AdapterService/ListAdapters")
        recorder.grpc("draining: health", "grpc.health.v1.Health/Check", b"")
        recorder.http("draining: text", TEXT, {"model": "base", "prompt": "a"})
        recorder.http("draining: text, wrong as well", TEXT, {"model": "base", "prompt": "a", "temperature": 9})
        for path in ("/readyz", "/livez", "/v1/models"):
            recorder.http(f"draining: {path}", path)
    waiting.join()
    recorder.exchanges["drain"] = {"replies": drained}


def _residency(_ask: _Adapters, work: Path) -> None:
    """Two slots: pins, what must leave, and what finds no place."""
    third = write_adapter(work / "other", seed=3)
    _ask("push: a third", "UploadVersion", upload(third, "other"))
    _ask.answers("a third", "other@1")
    _ask("residency", "ListResidency")
    _ask("pin", "SetPin", {"adapter": "other", "version": "1", "pinned": True, "request_id": "p1"})
    _ask("pin: the same call again", "SetPin", {"adapter": "other", "version": "1", "pinned": True, "request_id": "p1"})
    _ask("pin: too many", "SetPin", {"adapter": "tale", "version": "1", "pinned": True})
    _ask("pin: unknown", "SetPin", {"adapter": "tale", "version": "9", "pinned": True})
    _ask("residency: pinned", "ListResidency")
    _ask("unpin", "SetPin", {"adapter": "other", "version": "1"})
    _ask.answers("evicted and back", "tale@2")
    _ask("prefetch: there", "PrefetchVersion", {"adapter": "tale", "version": "2"})
    _ask("prefetch: by alias", "PrefetchVersion", {"adapter": "tale", "version": "stable"})
    _ask("prefetch: unknown", "PrefetchVersion", {"adapter": "tale", "version": "none"})
    _ask("prefetch: nothing", "PrefetchVersion")


def _imports(_ask: _Adapters, work: Path) -> None:
    folder = str(write_adapter(work / "imported", seed=4))
    _ask("import", "ImportVersion", {"adapter": "imported", "path": folder, "alias": "stable"})
    _ask("import: again", "ImportVersion", {"adapter": "imported", "path": folder})
    _ask("import: outside", "ImportVersion", {"adapter": "imported", "path": "/etc"})
    _ask("import: no folder", "ImportVersion", {"adapter": "imported", "path": str(work / "missing")})
    _ask("import: nothing", "ImportVersion")


def _refused_pushes(_ask: _Adapters, work: Path) -> None:
    good = write_adapter(work / "good", seed=5)
    configs: dict[str, dict[str, Any]] = {
        "DoRA": {"use_dora": True},
        "bias": {"bias": "all"},
        "other modules": {"target_modules": ["embed_tokens"]},
        "saved modules": {"modules_to_save": ["lm_head"]},
        "another rank": {"r": 4},
        "another method": {"peft_type": "IA3"},
    }
    for row, config in configs.items():
        folder = write_adapter(work / f"refused {row}", seed=5, config=config)
        _ask(f"refused push: {row}", "UploadVersion", upload(folder, "refused"))
    _ask("refused push: rank", "UploadVersion", upload(write_adapter(work / "rank", seed=5, rank=32), "refused"))
    noop = write_adapter(work / "noop", seed=5, noop=True)
    _ask("refused push: changes nothing", "UploadVersion", upload(noop, "refused"))
    _ask("push: changes nothing, allowed", "UploadVersion", upload(noop, "noop", allow_noop=True))
    _ask("refused push: name", "UploadVersion", upload(good, "a b"))
    _ask("refused push: alias", "UploadVersion", upload(good, "refused", alias="a b"))
    _ask("refused push: no message", "UploadVersion", [])
    messages = upload(good, "refused")
    _ask("refused push: no header", "UploadVersion", messages[1:])
    _ask("refused push: header only", "UploadVersion", messages[:1])
    _ask("refused push: half", "UploadVersion", messages[:3])
    _ask("refused push: header twice", "UploadVersion", [messages[0], messages[0]])
    _ask("refused push: other bytes", "UploadVersion", _changed(messages))
    stray = adapter_pb2.UploadVersionRequest(chunk=adapter_pb2.UploadChunk(file="../x", data=b"x"))
    _ask("refused push: stray file", "UploadVersion", [messages[0], stray])
    (good / "adapter_config.json").write_text("{")
    _ask("refused push: broken config", "UploadVersion", upload(good, "refused"))
    (good / "adapter_config.json").unlink()
    _ask("refused push: no config", "UploadVersion", upload(good, "refused"))
    (good / "readme.exe").write_bytes(b"x")
    _ask("refused push: unknown file", "UploadVersion", upload(good, "refused"))


def _changed(messages: Sequence[adapter_pb2.UploadVersionRequest]) -> list[adapter_pb2.UploadVersionRequest]:
    last = adapter_pb2.UploadVersionRequest()
    last.CopyFrom(messages[-1])
    last.chunk.data = bytes(len(last.chunk.data))
    return [*messages[:-1], last]


class _Adapters:
    """Calls of the AdapterService, and questions to an adapter on both fronts."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder

    def __call__(self, row: str, method: str, request: Request = EMPTY) -> list[dict[str, Any]]:
        return self._recorder.grpc(f"adapters: {row}", f"AdapterService/{method}", request)

    def answers(self, row: str, model: str) -> None:
        self._recorder.grpc(f"{row}: Generate", "InferenceService/Generate", {"model": model, **_ASKED})
        fields = {"model": model, "prompt": "abc ->", "max_tokens": 6, "temperature": 0}
        self._recorder.http(f"{row}: text", TEXT, fields)
        turns = {"model": model, "messages": [{"role": "user", "content": "abc"}], "max_tokens": 4, "temperature": 0}
        self._recorder.http(f"{row}: chat stream", CHAT, {**turns, "stream": True})


@contextmanager
def _streams(recorder: Recorder, num: int) -> Iterator[None]:
    """So many long requests, cancelled at the end."""
    calls = [recorder.call("InferenceService/Generate", _LONG, f"long {index}") for index in range(num)]
    readers = [Thread(target=_read, args=(call,)) for call in calls]
    for reader in readers:
        reader.start()
    with recorder.uncounted():
        try:
            yield
        finally:
            for call in calls:
                call.cancel()
    for reader in readers:
        reader.join()


def _read(call: Any) -> None:
    try:
        for _ in call:
            pass
    except grpc.RpcError:
        pass
