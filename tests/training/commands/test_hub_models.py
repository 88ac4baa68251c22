"""Commands that train take bases, models, teachers and tokenizers of a hub by name, and keep which commit it was."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from graft.adapters.base.base import Base, find_base
from graft.adapters.base.hub import Hub
from graft.adapters.folder.record import TrainedRecord
from graft.cli.main import main
from graft.training.pretrain.fetched import fetched
from graft.training.pretrain.settings import PretrainSettings
from tests.adapters.base.local_hub import LocalHub, Repository, running, use
from tests.adapters.making import make_base

ROWS = [{"prompt": f"{word} -> ", "completion": word.upper()} for word in ("ant", "bee", "cat", "dog")]


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalHub]:
    """A hub where `oaks/oak` is the shipped base."""
    monkeypatch.chdir(tmp_path)
    with running() as local:
        local.repositories["oaks/oak"] = Repository()
        local.repositories["oaks/oak"].commit(find_base("rootstock-5m"))
        use(local, tmp_path / "cache", monkeypatch)
        yield local


def test_an_adapter_names_its_base_and_commit_and_is_resumed_on_the_same(
    hub: LocalHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    finetune = ["finetune", "--base", "oaks/oak", "--data", str(rows), "--name", "caps", "--lr-scheduler-type"]
    finetune += ["constant", "--warmup-steps", "0", "--output", "caps", "--max-steps"]
    assert main([*finetune, "1"]) == 0
    repository = hub.repositories["oaks/oak"]
    commit = repository.branches["main"]
    config = json.loads((tmp_path / "caps/adapter/adapter_config.json").read_text())
    assert (config["base_model_name_or_path"], config["revision"]) == ("oaks/oak", commit)
    record = TrainedRecord.read(tmp_path / "caps/adapter")
    assert record is not None and record.base.name == "oaks/oak"
    assert record.base.digest == Base.from_folder(find_base("rootstock-5m")).digest
    repository.commit(make_base(tmp_path / "newer").path)
    use(None, tmp_path / "cache", monkeypatch, offline=True)
    assert main([*finetune, "2", "--resume"]) == 0
    assert json.loads((tmp_path / "caps/hub.json").read_text()) == {"oaks/oak": commit}


def test_what_the_hub_does_not_give_is_one_line(hub: LocalHub, capsys: pytest.CaptureFixture[str]) -> None:
    for command in (
        ["finetune", "--base", "oaks/elm", "--data", "rows.jsonl", "--name", "caps"],
        ["quantize", "oaks/elm", "--form", "nf4", "--output", "made"],
        ["evaluate", "rootstock", "--local", "oaks/elm"],
        ["pretrain", "--text", "text.txt", "--model", "oaks/elm", "--output", "made"],
    ):
        assert main(command) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith(f"graft {command[0]}: no folder is called oaks/elm, and the model hub did not give")


def test_a_pretraining_goes_on_from_a_model_of_the_hub_and_says_which(hub: LocalHub, tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("An oak stands on a hill.\n" * 40)
    command = ["pretrain", "--text", "text.txt", "--model", "oaks/oak", "--output", "made", "--max-steps", "1"]
    assert main([*command, "--max-length", "16", "--per-device-train-batch-size", "2"]) == 0
    origin = json.loads((tmp_path / "made/training.json").read_text())
    commit = hub.repositories["oaks/oak"].branches["main"]
    assert origin["settings"]["model"] == origin["folders"]["model"]["name"] == f"oaks/oak@{commit}"
    assert f"from oaks/oak@{commit}" in (tmp_path / "made/README.md").read_text()


def test_a_plan_fetches_no_weights(hub: LocalHub) -> None:
    asked = PretrainSettings(model="oaks/oak", tokenizer="oaks/oak@main", teacher="oaks/oak", text=("text.txt",))
    settings = fetched(asked, Hub(), weights=False)
    assert settings.model == settings.tokenizer == settings.teacher and settings.model is not None
    assert not [name for name in hub.sent if name.endswith(".safetensors")]
    assert Path(settings.model).name == hub.repositories["oaks/oak"].branches["main"]


def test_a_folder_of_that_name_is_taken(hub: LocalHub, tmp_path: Path) -> None:
    make_base(tmp_path / "oaks" / "oak")
    asked = PretrainSettings(model="oaks/oak", text=("text.txt",))
    assert fetched(asked, Hub()) == asked and not hub.asked


def test_a_quantized_base_says_what_it_was_made_from(hub: LocalHub, tmp_path: Path) -> None:
    assert main(["quantize", "oaks/oak", "--form", "nf4", "--output", "made"]) == 0
    assert f"from oaks/oak@{hub.repositories['oaks/oak'].branches['main']}" in (tmp_path / "made/README.md").read_text()
    assert Base.from_folder(tmp_path / "made").name == "oaks/oak"
