"""A server on a machine that nobody has used: empty caches, a home that cannot be written, compilers that tell."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from graft.client import Client
from graft.server.engine.vllm.warm_up.warm_up import CHATS, COMPLETIONS
from tests.cases.harness.wire import HttpCase, check_http
from tests.running import Server, start_server, stop_server

COMPILERS = ("c++", "g++", "gcc", "cc", "clang", "clang++", "ld", "as", "nvcc")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cold")


@pytest.fixture(scope="module")
def cold_server(folder: Path, short_folder: Path) -> Iterator[Server]:
    programs = folder / "programs"
    programs.mkdir()
    for name in COMPILERS:
        (programs / name).write_text(f'#!/bin/sh\necho "{name} $*" >> {folder}/called\nexit 1\n')
        (programs / name).chmod(0o755)
    (folder / "home").touch()  # a file: nobody can write into it, root neither
    (folder / "cache").mkdir()
    environment = {
        "PATH": f"{programs}:{os.environ['PATH']}",
        "HOME": str(folder / "home"),
        "TMPDIR": str(short_folder),
        "XDG_CACHE_HOME": str(folder / "cache"),
        "CXX": "",
    }
    running = start_server(folder, environment=environment)
    yield running
    assert stop_server(running) == 0


def test_first_uses_compile_nothing(cold_server: Server, folder: Path, short_folder: Path) -> None:
    for name, body in {**COMPLETIONS, **CHATS}.items():
        text = {"messages": [{"role": "user", "content": "12+39?"}]} if name in CHATS else {"prompt": "12+39?"}
        path = "/v1/chat/completions" if name in CHATS else "/v1/completions"
        quiet = {"stream": False, "stream_options": None}
        check_http(HttpCase(id=name, path=path, body={**text, "max_tokens": 4, **body, **quiet}), cold_server)
    with Client(cold_server.grpc) as client:
        client.score("12+39?", [" 51"])
        assert client.info().engine_restarts == 0
    assert not (folder / "called").exists(), (folder / "called").read_text()
    made = [path for place in (short_folder, folder / "cache") for path in place.rglob("*")]
    made = [path for path in made if path.suffix in {".so", ".cpp"}]
    assert not made
