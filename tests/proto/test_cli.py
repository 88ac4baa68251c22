"""The command line: what is printed, what is imported, and the exit codes."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from importlib.metadata import EntryPoint
from pathlib import Path

import grpc
import pytest

from graft.cli import command
from graft.cli.commands import adapters
from graft.cli.failure import explain
from graft.cli.main import main
from graft.cli.terminal import size, table
from graft.client import Client
from graft.v1 import adapter_pb2
from tests.proto.scripted_server import Script, abort


def test_help_names_every_command_without_heavy_imports() -> None:
    code = (
        "import sys\nfrom graft.cli.main import main\n"
        "try: main(['--help'])\nexcept SystemExit: pass\n"
        "print(*(name for name in ('torch', 'vllm', 'transformers') if name in sys.modules), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == ""
    for name in command.find_commands():
        assert re.search(rf"^    {name}( |$)", done.stdout, re.MULTILINE), name


def test_only_the_chosen_command_is_imported() -> None:
    code = (
        "import sys\nfrom graft.cli.main import main\n"
        "try: main(['score', '--help'])\nexcept SystemExit: pass\n"
        "print(*sorted(name for name in sys.modules if '.commands.' in name), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.split() == ["graft.cli.commands.score"]


def test_a_command_is_interrupted_before_it_begins(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("graft.cli.main.find_commands", interrupted)
    assert main(["finetune"]) == 130
    assert capsys.readouterr().err == "graft: interrupted\n"


def test_a_command_that_cannot_be_imported_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = EntryPoint(name="finetune", value="graft.training.missing", group=command.GROUP)
    monkeypatch.setattr("graft.cli.main.find_commands", lambda: command.find_commands([broken]))
    assert main(["finetune"]) == 1
    assert 'pip install ".[training]"' in capsys.readouterr().err
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    assert ended.value.code == 0
    assert ".[training]" in capsys.readouterr().out


def test_listing_as_table_and_as_json(target: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["adapters", "list", "--server", target]) == 0
    assert capsys.readouterr().out.splitlines()[:2] == ["ADAPTER  VERSIONS  ALIASES", "a        1         stable=1"]
    assert main(["adapters", "list", "--server", target, "--output", "json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert [adapter["adapter"] for adapter in listed] == ["a", "b", "c"]


def test_generate_prints_the_text_and_who_answered(target: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["generate", "x", "--server", target, "--max-tokens", "5"]) == 0
    captured = capsys.readouterr()
    assert captured.out == "one\n"
    assert "dates@2 (abababababab) on rootstock-5m (nf4)" in captured.err


def test_score_puts_the_likeliest_first(target: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["score", "x", "longer", "s", "--server", target]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "'s'" in lines[1]
    assert "'longer'" in lines[2]


def test_chat_keeps_the_conversation(
    target: str, script: Script, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lines: Iterator[str] = iter(["hello", "/model dates", "again"])
    monkeypatch.setattr("builtins.input", lambda prompt: next(lines, None) or (_ for _ in ()).throw(EOFError))
    assert main(["chat", "--server", target]) == 0
    first, second = script.requests
    assert [turn.content for turn in first.prompt.chat.messages] == ["hello"]
    assert [turn.role for turn in second.prompt.chat.messages] == ["user", "assistant", "user"]
    assert second.model == "dates"


@pytest.mark.parametrize(
    ("status", "exit_code"), [("NOT_FOUND", 2), ("INVALID_ARGUMENT", 2), ("UNAVAILABLE", 1), ("INTERNAL", 1)]
)
def test_a_refusal_is_one_line_and_an_exit_code(
    target: str, script: Script, capsys: pytest.CaptureFixture[str], status: str, exit_code: int
) -> None:
    script.fault = lambda context: abort(context, grpc.StatusCode[status], "what happened")
    assert main(["generate", "x", "--server", target]) == exit_code
    assert capsys.readouterr().err == "graft generate: what happened\n"


def test_the_token_is_taken_from_the_environment_or_a_flag(
    target: str, script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GRAFT_TOKEN", "of-the-environment")
    assert main(["adapters", "list", "--server", target]) == 0
    assert main(["score", "x", "a", "--server", target, "--token", "of.the.flag="]) == 0
    monkeypatch.setenv("GRAFT_TOKEN", "")
    assert main(["score", "x", "a", "--server", target]) == 0
    assert list(dict.fromkeys(script.tokens)) == ["Bearer of-the-environment", "Bearer of.the.flag=", None]


def test_a_token_that_is_none_is_the_callers_mistake(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GRAFT_TOKEN", "s3cret\n")
    with pytest.raises(SystemExit) as ended:
        main(["adapters", "list"])
    said = capsys.readouterr().err
    assert ended.value.code == 2 and "--token: a token has letters" in said and "s3cret" not in said


def test_who_is_not_known_reads_where_a_token_belongs(
    target: str, script: Script, capsys: pytest.CaptureFixture[str]
) -> None:
    script.fault = lambda context: abort(context, grpc.StatusCode.UNAUTHENTICATED, "authorization: is missing")
    assert main(["generate", "x", "--server", target]) == 2
    assert "authorization: is missing (set GRAFT_TOKEN to" in capsys.readouterr().err


def test_a_mistyped_command_or_option_is_the_callers_mistake(capsys: pytest.CaptureFixture[str]) -> None:
    for argv in (["generat"], ["generate", "x", "--max-tokens", "many"], []):
        with pytest.raises(SystemExit) as ended:
            main(argv)
        assert ended.value.code == 2


def test_a_missing_folder_is_named(target: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["adapters", "push", str(tmp_path / "none"), "--name", "a", "--server", target]) == 2
    assert str(tmp_path / "none") in capsys.readouterr().err


def test_a_terminal_obeys_nothing_that_an_error_quotes(target: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["adapters", "push", "\x1b[2J\x9b31mx", "--name", "a", "--server", target]) == 2
    told = capsys.readouterr().err
    assert "\\x1b[2J\\x9b31mx" in told and "\x1b" not in told and "\x9b" not in told


def test_a_push_that_takes_long_says_what_it_waits_for(
    target: str, script: Script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """C9: the first foreign adapter waits for peft."""
    said = threading.Event()

    def say(*args: object, **kwargs: object) -> None:
        print(*args, **kwargs)  # type: ignore[call-overload]
        said.set()

    monkeypatch.setattr(adapters, "_WAIT_SECONDS", 0.01)
    monkeypatch.setattr(adapters, "print", say, raising=False)
    script.fault = lambda context: said.wait(20)
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        (tmp_path / name).write_bytes(b"{}")
    assert main(["adapters", "push", str(tmp_path), "--name", "a", "--alias", "stable", "--server", target]) == 0
    captured = capsys.readouterr()
    assert "still at it: the server checks" in captured.err and "peft is started" in captured.err
    assert captured.out.splitlines()[0] == "a@3 sha256:cd"


@pytest.mark.parametrize(("answer", "deleted"), [("y", True), ("", False), ("no", False)])
def test_deleting_an_adapter_asks_where_somebody_can_answer(
    target: str,
    script: Script,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    answer: str,
    deleted: bool,
) -> None:
    questions: list[str] = []
    monkeypatch.setattr(adapters.sys.stdin, "isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", lambda question: questions.append(question) or answer)
    assert main(["adapters", "delete", "k0", "--server", target]) == (0 if deleted else 2)
    assert questions == ["delete k0 with its 2 versions and its aliases canary, stable? [y/N] "]
    sent = [request for request in script.requests if isinstance(request, adapter_pb2.DeleteAdapterRequest)]
    assert [request.force for request in sent] == ([True] if deleted else [])
    assert ("deleted k0 with its 2 versions" in capsys.readouterr().out) == deleted


def test_domain_errors_are_known_by_their_shape() -> None:
    class DomainError(Exception):
        reasons = ("one",)

    class Ended(Exception):
        exit_code = 7

    assert explain(DomainError("no"), remedy="").exit_code == 2
    assert explain(Ended("no"), remedy="").exit_code == 7
    assert explain(KeyError("a bug"), remedy="") is None, "a bug keeps its traceback"
    with pytest.raises(Exception, match="not ready") as caught:
        Client("127.0.0.1:1").wait_ready(timeout=0)
    assert explain(caught.value, remedy="").exit_code == 1


def test_sizes_and_tables() -> None:
    assert [size(n) for n in (999, 1000, 1_500_000, 2_000_000_000)] == ["999 B", "1.0 kB", "1.5 MB", "2.0 GB"]
    assert table(("A", "LONG"), [(1, "x"), ("wide", "")]) == "A     LONG\n1     x\nwide"


def test_doctor_reports_every_subject(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    main(["doctor", "--output", "json", "--data-dir", str(tmp_path / "not" / "yet"), "--ports", "0"])
    subjects = {finding["subject"] for finding in json.loads(capsys.readouterr().out)}
    assert {"Python", "torch", "engine", "LoRA plugin", "CPU", "disk", "port 0"} <= subjects


@pytest.mark.parametrize(
    ("option", "value"),
    [("--timeout", "-1"), ("--timeout", "0"), ("--timeout", "nan"), ("-n", "0"), ("-n", "1000000000")],
)
def test_a_number_out_of_bounds_is_named(option: str, value: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["generate", "x", f"{option}={value}" if option == "--timeout" else f"{option}{value}"])
    assert ended.value.code == 2
    assert f"'{value}' is not a" in capsys.readouterr().err


@pytest.mark.parametrize("argv", [["generate", "\udcff"], ["chat", "\udcff"], ["score", "x", "\udcff"]])
def test_an_argument_that_is_not_utf8(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(argv) == 2
    assert "is not UTF-8 at character 0" in capsys.readouterr().err


@pytest.mark.parametrize("errors", ["strict", "surrogateescape"])
def test_standard_input_that_is_not_utf8(
    errors: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"\xff\xfe"), encoding="utf-8", errors=errors))
    assert main(["generate", "-"]) == 2
    assert "standard input is not UTF-8" in capsys.readouterr().err
