"""A pretraining on tokens that were made beforehand is the one on their text, and what does not fit is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoTokenizer

from graft.cli.main import main
from graft.training.corpus.byte_pairs import train_tokenizer
from graft.training.corpus.shards import making
from graft.training.corpus.shards.folder import TokenFolder
from graft.training.corpus.texts import read_documents
from graft.training.errors import CheckpointError, ConfigurationError, DataError
from graft.training.launch.machine import Machine
from graft.training.loop.checkpoint import complete_checkpoints
from graft.training.pretrain import finished
from graft.training.pretrain.corpus import FOLDER
from tests.training.pretrain.making import ALONE, job, weights


@pytest.fixture(scope="module")
def speller(text: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tokenizer")
    train_tokenizer(read_documents(text), vocab_size=384, context_tokens=32).save_pretrained(folder)
    return folder


def tokens_of(text: Path, tokenizer: Path, output: Path) -> Path:
    command = ["corpus", "tokenize", "--text", str(text), "--tokenizer", str(tokenizer), "--workers", "1"]
    assert main([*command, "--output", str(output)]) == 0
    return output


@pytest.fixture(scope="module")
def tokens(text: Path, speller: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tokens_of(text, speller, tmp_path_factory.mktemp("tokens") / "tokens")


def test_tokens_make_the_base_that_their_text_makes(text: Path, speller: Path, tokens: Path, tmp_path: Path) -> None:
    plain = job(tmp_path / "text", text, tokenizer=str(speller), validation=str(text))
    ready = job(tmp_path / "tokens", tokens, validation=str(text))
    expected, found = plain.execute(ALONE, resume=False), ready.execute(ALONE, resume=False)
    told = [name for name in expected if name.startswith(("validation", "unigram", "trigram", "loss"))]
    assert {name: found[name] for name in told} == {name: expected[name] for name in told}
    assert found["validation_overlap"] == 1.0
    before, after = weights(plain.output), weights(ready.output)
    assert all(torch.equal(after[name], one) for name, one in before.items())
    origin = json.loads((ready.output / "training.json").read_text())
    assert origin["data"] == [{"file": "tokens", "digest": TokenFolder.open(tokens).header.digest}]
    own = AutoTokenizer.from_pretrained(ready.output).get_vocab()
    assert own == AutoTokenizer.from_pretrained(speller).get_vocab()


def test_tokens_go_on_to_the_bit_and_others_are_not_gone_on_with(
    text: Path, speller: Path, tokens: Path, tmp_path: Path
) -> None:
    whole = job(tmp_path / "whole", tokens, save_steps=3)
    whole.execute(ALONE, resume=False)
    parts = job(tmp_path / "parts", tokens, save_steps=3)
    parts.execute(ALONE, resume=False)
    (parts.work / "checkpoint-6" / "COMPLETE").unlink()
    other = tmp_path / "other.jsonl"
    other.write_text(text.read_text() + '\n{"text": "one more"}\n')
    changed = job(tmp_path / "parts", tokens_of(other, speller, tmp_path / "others"), save_steps=3)
    with pytest.raises(CheckpointError, match="its data was another"):
        changed.execute(ALONE, resume=True)
    assert len(complete_checkpoints(parts.work)) == 1
    parts.execute(ALONE, resume=True)
    expected, found = weights(whole.output), weights(parts.output)
    assert all(torch.equal(found[name], one) for name, one in expected.items())


def test_text_is_tokenised_once_for_a_work_and_again_where_it_is_damaged(
    text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = job(tmp_path, text, save_steps=3)
    one.execute(ALONE, resume=False)
    (folder,) = (one.work / FOLDER).iterdir()
    expected, digest = weights(one.output), TokenFolder.open(folder).header.digest
    made: list[Path] = []
    finish = making.Tokenizing._finish

    def counted(self: making.Tokenizing, *arguments: Any) -> None:
        made.append(self.output)
        finish(self, *arguments)

    monkeypatch.setattr(making.Tokenizing, "_finish", counted)
    (one.work / FOLDER / "0123456789abcdef").mkdir()  # of a text that is no longer asked for
    for num_made, damage in enumerate((None, "00000.tokens", "tokens.json")):
        (one.work / "checkpoint-6" / "COMPLETE").unlink()
        if damage is not None:
            (folder / damage).write_bytes(b"{}")
        one.execute(ALONE, resume=True)
        assert made == [folder] * num_made and TokenFolder.open(folder).header.digest == digest
        assert list((one.work / FOLDER).iterdir()) == [folder]
        found = weights(one.output)
        assert all(torch.equal(found[name], weight) for name, weight in expected.items())


def test_what_does_not_fit_is_refused_and_leaves_nothing(
    text: Path, speller: Path, tokens: Path, tmp_path: Path
) -> None:
    train_tokenizer(["other words"] * 9, vocab_size=300, context_tokens=32).save_pretrained(tmp_path / "other")
    masks = AutoTokenizer.from_pretrained(speller)
    masks.eos_token = "<mask>"
    masks.save_pretrained(tmp_path / "masks")
    small = job(tmp_path / "small", text, tokenizer=str(tmp_path / "other"))
    small.execute(ALONE, resume=False)
    cases: list[tuple[dict[str, Any], type[Exception], str]] = [
        ({"tokenizer": str(tmp_path / "other")}, DataError, "were made by another tokenizer than the one of this"),
        ({"model": str(small.output)}, DataError, "were made by another tokenizer"),
        ({"tokenizer": str(tmp_path / "masks")}, DataError, "end in the token 2, and the tokenizer's end token is 3"),
        ({"family": "bert"}, ConfigurationError, "holds tokens, and 'masked' learns from sentences"),
        ({"text": (str(tokens), str(text))}, ConfigurationError, "name one kind alone"),
        ({"text": (str(speller),)}, DataError, "holds no tokens.json"),
        ({"per_device_train_batch_size": 4000}, DataError, "give more text"),
    ]
    for settings, error, message in cases:
        with pytest.raises(error, match=message):
            job(tmp_path / "no", tokens, **settings).execute(ALONE, resume=False)
        assert not (tmp_path / "no").exists()


def test_ids_beyond_the_vocabulary_are_refused_before_a_step(tokens: Path, tmp_path: Path) -> None:
    """A header that somebody else wrote."""
    from graft.adapters.digest import digest_of_json

    folder = tmp_path / "tokens"
    folder.mkdir()
    for one in tokens.iterdir():
        (folder / one.name).symlink_to(one)
    values = json.loads((tokens / "tokens.json").read_text())
    values["shards"][0]["max_id"] = 70_000
    del values["digest"]
    (folder / "tokens.json").unlink()
    (folder / "tokens.json").write_text(json.dumps({**values, "digest": digest_of_json(values)}))
    with pytest.raises(DataError, match="go up to the id 70000, and the model has embeddings for 3"):
        job(tmp_path / "no", folder).execute(ALONE, resume=False)


def test_a_plan_reads_tokens_and_text_alike_and_writes_nothing(
    text: Path, speller: Path, tokens: Path, tmp_path: Path
) -> None:
    four = Machine.named(None, num=4, room=1e9)
    plain = job(tmp_path / "a", text, tokenizer=str(speller)).plan(four)
    assert job(tmp_path / "b", tokens).plan(four) == plain
    assert not list(tmp_path.iterdir())


def test_counting_models_count_all_or_nothing(
    text: Path, tokens: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(finished, "MAX_COUNTED", 100)
    metrics = job(tmp_path, tokens, validation=str(text)).execute(ALONE, resume=False)
    assert "validation_loss" in metrics and not any(name.startswith("trigram") for name in metrics)
    assert "they count 100 tokens at most, and the text has" in caplog.text


def test_the_command_tokenises_checks_and_says_what_is_wrong(
    text: Path, speller: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tokens_of(text, speller, tmp_path / "tokens")
    told = capsys.readouterr().out
    assert "tokens of 60 documents in" in told and "sha256:" in told
    command = ["corpus", "tokenize", "--text", str(text), "--tokenizer", str(speller), "--output"]
    assert main([*command, str(output)]) == 2
    assert "is there already" in capsys.readouterr().err
    assert main(["corpus", "check", str(output)]) == 0
    assert "60 documents, as they were written" in capsys.readouterr().out
    spelled = output / "tokenizer" / "tokenizer.json"
    before, values = spelled.read_text(), json.loads(spelled.read_text())
    for other in (json.dumps({**values, "normalizer": {"type": "Lowercase"}}), before[: len(before) // 2]):
        spelled.write_text(other)
        assert main(["corpus", "check", str(output)]) == 2
        assert f"{output / 'tokenizer'} is damaged" in capsys.readouterr().err
    spelled.write_text(before)
    data = bytearray((output / "00000.lines").read_bytes())
    data[len(data) // 2 - 1] ^= 1
    (output / "00000.lines").write_bytes(data)
    assert main(["corpus", "check", str(output)]) == 2
    assert "00000.lines" in capsys.readouterr().err
    bad, empty = tmp_path / "bad.jsonl", tmp_path / "empty.txt"
    bad.write_text('{"text": 1}\n')
    empty.write_text("\n")
    for named, words in ((",", "--text , names no text"), (str(empty), f"{empty}")):
        assert main(["corpus", "tokenize", "--text", named, *command[4:], str(tmp_path / "no")]) == 2
        assert words in capsys.readouterr().err
        assert not (tmp_path / "no").exists() and not list(tmp_path.glob(".*"))
    assert main(["corpus", "tokenize", "--text", str(bad), *command[4:], str(tmp_path / "no")]) == 2
    said = capsys.readouterr().err
    assert 'line 1: must be an object with "text"' in said and "Traceback" not in said
    assert not (tmp_path / "no").exists() and not list(tmp_path.glob(".*"))
