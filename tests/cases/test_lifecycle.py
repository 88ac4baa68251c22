"""Settings, ids and counts, from outside."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from graft.adapters.base.base import shipped_bases
from tests.cases.harness.command import CommandCase, Commands
from tests.cases.harness.wire import HttpCase, check_http
from tests.running import Server

_OF_A_SERVICE = {
    "GRAFT_SERVICE_HOST": "10.0.0.11",
    "GRAFT_SERVICE_PORT": "8470",
    "GRAFT_PORT": "tcp://10.0.0.11:8470",
    "GRAFT_PORT_8470_TCP_ADDR": "10.0.0.11",
    "GRAFT_HTTP_PORT": "tcp://10.0.0.12:8471",
}


def base_with(file: str, text: str) -> Callable[[Path], None]:
    """The shipped base with another text in one of its files."""

    def make(folder: Path) -> None:
        shutil.copytree(shipped_bases()["rootstock-5m"], folder / "bd")
        (folder / "bd" / file).unlink(missing_ok=True)
        (folder / "bd" / file).write_text(text)

    return make


_SERVE = ["serve", "--base", "{folder}/bd", "--data-dir", "{folder}/data", "--grpc-port", "0", "--http-port", "0"]


def starts_on(*broken: tuple[str, str, str, str]) -> list[CommandCase]:
    """What is wrong with a base, its file with this text, and how that is said before an engine starts."""
    return [
        CommandCase(
            id=f"{what} is said at the start",
            argv=_SERVE,
            prepare=base_with(file, text),
            says=[f"{file}: {problem}", "bd"],
            silent=["starting the engine"],
        )
        for what, file, text, problem in broken
    ]


COMMANDS = [
    *starts_on(
        (
            "a chat template that does not parse",
            "chat_template.jinja",
            "{% for message in messages %}\n{{ message.content }",
            "does not parse (line 2: ",
        ),
        ("a tokenizer that is no JSON", "tokenizer.json", "{broken", "is not valid JSON"),
        ("a tokenizer that is another JSON", "tokenizer.json", "{}", "makes no tokenizer"),
    ),
    CommandCase(
        id="a number that is none",
        argv=["serve"],
        says=["num_slots = 'abc' (GRAFT_NUM_SLOTS): must be a whole number between 0 and 1024"],
        silent=["literal"],
        environment={"GRAFT_NUM_SLOTS": "abc"},
    ),
    CommandCase(
        id="reading 5 a Service's variables are no settings",
        argv=["serve", "--num-slots", "-1"],
        says=["num_slots is -1, but must lie between 0 and 1024"],
        silent=["GRAFT_"],
        environment=_OF_A_SERVICE,
    ),
    CommandCase(
        id="reading 5 a typo",
        argv=["serve"],
        says=["unknown setting GRAFT_TYPO in the environment"],
        environment={**_OF_A_SERVICE, "GRAFT_TYPO": "1"},
    ),
    CommandCase(
        id="S24 a host that is none",
        argv=["serve", "--host", "nowhere.invalid", "--data-dir", "{folder}/data"],
        says=["cannot listen on nowhere.invalid:8470: "],
        then=lambda folder: not (folder / "data").exists() or pytest.fail("a folder was made"),
    ),
]


@pytest.mark.parametrize("case", COMMANDS, ids=str)
def test_commands(case: CommandCase, commands: Commands) -> None:
    commands.check(case)


@pytest.mark.parametrize("path", ["/v1/completions", "/v1/chat/completions"])
@pytest.mark.parametrize("stream", [False, True])
def test_s25_the_reply_bears_the_headers_id(server: Server, path: str, stream: bool) -> None:
    content = {"prompt": "a"} if path == "/v1/completions" else {"messages": [{"role": "user", "content": "a"}]}
    body = {"model": "base", "max_tokens": 2, "stream": stream, **content}
    reply = httpx.post(server.http + path, json=body, timeout=60)
    name = reply.headers["x-request-id"]
    answers = [json.loads(line[6:]) for line in reply.text.splitlines() if line.startswith("data: {")]
    assert {answer["id"].partition("-")[2] for answer in answers or [reply.json()]} == {name}
    until(lambda: name in server.log.read_text(errors="replace"))


def test_c11_every_model_that_is_listed_answers_and_base_is_among_them(server: Server) -> None:
    def check(listed: dict[str, list[dict[str, str]]]) -> None:
        assert "base" in [model["id"] for model in listed["data"]]

    check_http(HttpCase(id="C11", path="/v1/models", method="GET", body=b"", check=check), server)


def test_c10_probes_and_scrapes_are_neither_counted_nor_logged(server: Server) -> None:
    before, log = num_requests(server), server.log.read_text(errors="replace")
    for path in ("/metrics", "/livez", "/readyz"):
        assert httpx.get(server.http + path).status_code == 200
    assert num_requests(server) == before
    assert server.log.read_text(errors="replace").count("/livez") == log.count("/livez") == 0


def test_s12_what_was_made_is_counted_whoever_waits_for_it(server: Server) -> None:
    body = {"model": "base", "prompt": ["12+39?"] * 8, "n": 4, "max_tokens": 10, "temperature": 1}
    before = num_tokens(server)
    stream = {**body, "stream": True, "stream_options": {"include_usage": True}}
    reply = httpx.post(f"{server.http}/v1/completions", json=stream, timeout=60)
    usage = json.loads([line for line in reply.text.splitlines() if line.startswith("data: {")][-1][6:])["usage"]
    assert num_tokens(server) - before == usage["completion_tokens"] > 32
    before = num_tokens(server)
    long = {"model": "base", "prompt": "a", "max_tokens": 900, "ignore_eos": True, "stream": True}
    with httpx.stream("POST", f"{server.http}/v1/completions", json=long, timeout=60) as left:
        lines = left.iter_lines()
        for _ in range(100):
            next(lines)
    until(lambda: gauge(server, "graft_running_requests") == 0)
    assert 50 <= num_tokens(server) - before < 900


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def gauge(server: Server, start: str) -> float:
    lines = httpx.get(f"{server.http}/metrics").text.splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(start))


def num_tokens(server: Server) -> float:
    return gauge(server, 'graft_tokens_total{kind="completion"')


def num_requests(server: Server) -> float:
    return gauge(server, 'graft_requests_total{front="http"')
