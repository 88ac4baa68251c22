"""`graft bench NAME`: other rooms' benchmarks behind one command."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import EntryPoint

import pytest

from graft.cli import command
from graft.cli.main import main


@pytest.fixture(autouse=True)
def one_missing_benchmark(monkeypatch: pytest.MonkeyPatch) -> None:
    missing = EntryPoint(name="forms", value="graft.training.missing", group=command.BENCHMARKS)

    def found(*, group: str) -> Mapping[str, command.CommandEntry]:
        assert group == command.BENCHMARKS
        return command.find_commands([missing])

    monkeypatch.setattr("graft.cli.commands.bench.find_commands", found)


def test_bench_alone_keeps_its_meaning(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "--streams", "0", "1"]) == 2
    assert "must be at least 1" in capsys.readouterr().err


def test_a_benchmark_that_cannot_be_imported_says_what_to_install(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "forms"]) == 1
    assert 'pip install ".[training]"' in capsys.readouterr().err
    with pytest.raises(SystemExit) as ended:
        main(["bench", "--help"])
    assert ended.value.code == 0
    assert "forms" in capsys.readouterr().out


def test_an_unknown_benchmark_is_the_callers_mistake(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["bench", "form"])
    assert ended.value.code == 2
    assert "forms" in capsys.readouterr().err
