"""Folders of tokens: what is in them is the text's tokens, whoever makes them and however often that is broken off."""

from __future__ import annotations

import gzip
import json
import random
import resource
import shutil
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from transformers import PreTrainedTokenizerFast

from graft.adapters.digest import digest_of_bytes
from graft.training.corpus.byte_pairs import train_tokenizer
from graft.training.corpus.shards import making, shard_writer
from graft.training.corpus.shards.folder import TokenFolder, stream_of
from graft.training.corpus.shards.header import FILE, Header
from graft.training.corpus.shards.making import Tokenizing
from graft.training.corpus.shards.spelled import tokenizer_digest
from graft.training.corpus.texts import encode_whole, read_documents
from graft.training.errors import DataError, NotWritten

END = 2


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("files")
    rng = random.Random(0)

    def words(num: int) -> str:
        return " ".join("".join(rng.choices("abcdé ğ第", k=4)) for _ in range(num))

    rows = "".join(json.dumps({"text": words(rng.randrange(9))}) + "\n" for _ in range(400))
    (folder / "rows.jsonl").write_text(rows)
    (folder / "packed.jsonl.gz").write_bytes(gzip.compress(rows[: rows.index("\n", 900) + 1].encode()))
    (folder / "prose.txt").write_text("One line.\n\nAnother </s> line.\n")
    (folder / "list.json").write_text(json.dumps([{"text": words(3)}, {"text": words(4)}]))
    return [folder / name for name in ("prose.txt", "rows.jsonl", "list.json", "packed.jsonl.gz")]


@pytest.fixture(scope="module")
def speller(files: list[Path]) -> PreTrainedTokenizerFast:
    return train_tokenizer(read_documents(files[1]), vocab_size=320, context_tokens=64)


def tokenizing(paths: list[Path], tokenizer: PreTrainedTokenizerFast, output: Path, **options: Any) -> Tokenizing:
    return Tokenizing(paths=paths, tokenizer=tokenizer, end_id=END, output=output, **options)


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("piece_bytes", [700, 5000, 1 << 30])
def test_a_folder_holds_the_tokens_of_its_files(
    piece_bytes: int, files: list[Path], speller: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    reports: list[int] = []
    made = tokenizing(files, speller, tmp_path / "tokens", piece_bytes=piece_bytes).make(reports.append)
    expected = [ids for path in files for (ids,) in encode_whole(read_documents(path), speller)]
    stream = stream_of([made])
    assert list(stream.documents()) == expected
    assert stream.num_documents == made.header.num_documents == len(expected)
    assert stream.span(0, stream.num_tokens).ids_N.tolist() == [one for ids in expected for one in [*ids, END]]
    assert made.header.max_id == max(one for ids in expected for one in ids)
    assert made.header.sources == tuple((path.name, digest_of_bytes(path.read_bytes())) for path in files)
    assert reports == sorted(reports) and reports[-1] == sum(path.stat().st_size for path in files)
    assert not list(made.damaged()) and [path.name for path in tmp_path.iterdir()] == ["tokens"]
    if piece_bytes < 1 << 30:
        assert len(made.header.shards) > 3


def test_several_processes_make_the_same_bytes(
    files: list[Path], speller: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    one = tokenizing(files, speller, tmp_path / "one", piece_bytes=5000).make()
    two = tokenizing(files, speller, tmp_path / "two", piece_bytes=5000, num_workers=2).make()
    assert content(one.path) == content(two.path) and one.header.digest == two.header.digest


def test_what_is_finished_is_not_made_again(
    files: list[Path], speller: PreTrainedTokenizerFast, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Broken off after three shards, in the middle of the fourth, whose files are there and are not taken."""
    whole = tokenizing(files, speller, tmp_path / "whole", piece_bytes=5000).make()
    job = tokenizing(files, speller, tmp_path / "tokens", piece_bytes=5000)
    append, replace_text = shard_writer._Files.append, shard_writer.replace_text
    written: list[Path] = []

    def counted(path: Path, text: str) -> None:
        written.append(path)
        replace_text(path, text)

    def broken_off(self: Any, *batch: Any) -> None:
        append(self, *batch)
        if len(written) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(shard_writer, "replace_text", counted)
    monkeypatch.setattr(shard_writer._Files, "append", broken_off)
    with pytest.raises(KeyboardInterrupt):
        job.make()
    assert not job.output.exists() and len(written) == 3
    assert (tmp_path / ".tokens.part" / "00003.tokens").stat().st_size > 0
    monkeypatch.setattr(shard_writer._Files, "append", append)
    assert content(job.make().path) == content(whole.path)
    assert len(written) == len(set(written)) == len(whole.header.shards) > 4


def test_a_changed_file_and_another_tokenizer_are_not_taken_for_the_old_ones(
    files: list[Path], speller: PreTrainedTokenizerFast, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(files[1].read_bytes())

    def stopped(*arguments: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(making.Tokenizing, "_finish", stopped)
    with pytest.raises(KeyboardInterrupt):
        tokenizing([path], speller, tmp_path / "tokens", piece_bytes=5000).make()
    monkeypatch.undo()
    path.write_bytes(files[1].read_bytes().replace(b"a", b"b"))
    other = train_tokenizer(["other words"] * 9, vocab_size=300, context_tokens=64)
    made = tokenizing([path], other, tmp_path / "tokens", piece_bytes=5000).make()
    expected = [ids for (ids,) in encode_whole(read_documents(path), other)]
    assert list(stream_of([made]).documents()) == expected


@pytest.mark.parametrize("num_workers", [1, 2])
def test_all_bad_rows_are_told_as_the_reader_tells_them(
    num_workers: int, files: list[Path], speller: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    good = files[1].read_text().splitlines()
    bad = [*good[:150], *['{"txt": 1}'] * 130, *good[150:], "["]
    names = {"bad.jsonl": "\n".join(bad), "empty.txt": " \n", "blank.jsonl": '{"text": " "}\n', "odd.xyz": "a"}
    paths = [tmp_path / name for name in names]
    for path, text in zip(paths, names.values(), strict=True):
        path.write_text(text)
    told = []
    for path in paths:
        with pytest.raises(DataError) as caught:
            read_documents(path)
        told.append(str(caught.value))
    job = tokenizing([*paths, files[0]], speller, tmp_path / "tokens", piece_bytes=5000, num_workers=num_workers)
    with pytest.raises(DataError) as caught:
        job.make()
    assert str(caught.value) == "\n".join(told) and "and 121 more bad lines" in told[0]
    assert not job.output.exists()
    with pytest.raises(DataError, match=r"missing.txt cannot be read: No such file"):
        tokenizing([tmp_path / "missing.txt"], speller, tmp_path / "tokens").make()


def test_one_process_makes_a_folder_at_a_time(
    files: list[Path], speller: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    job = tokenizing(files, speller, tmp_path / "tokens")
    with making._held(tmp_path / ".tokens.part"), pytest.raises(DataError, match="another process tokenises into"):
        job.make()
    job.make()


def damage(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], None]:
    """Of the header, whose digest is made right again."""

    def apply(folder: Path) -> None:
        values = json.loads((folder / FILE).read_text())
        change(values)
        del values["digest"]
        values["digest"] = making_digest(values)
        (folder / FILE).write_text(json.dumps(values))

    return apply


def making_digest(values: dict[str, Any]) -> str:
    from graft.adapters.digest import digest_of_json

    return digest_of_json(values)


def cut(name: str, num_bytes: int) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:num_bytes])  # type: ignore[return-value]


def flipped(name: str, at: int) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        data = bytearray((folder / name).read_bytes())
        data[at] ^= 1
        (folder / name).write_bytes(data)

    return apply


@pytest.mark.parametrize(
    ("apply", "message"),
    [
        (lambda folder: (folder / FILE).unlink(), "holds no tokens.json: it is no folder of tokens, or one that was"),
        (cut(FILE, 300), "tokens.json is damaged: it is no JSON"),
        (cut(FILE, 0), "tokens.json is damaged: it is no JSON"),
        (flipped(FILE, 100), "tokens.json is damaged: it"),
        (lambda folder: (folder / FILE).write_text("[]"), "is damaged: it is no header of graft-tokens"),
        (damage(lambda values: values.update(version=7)), "is of version 7 of the format, and this Graft reads 1"),
        (damage(lambda values: values.update(dtype="float8")), r"is damaged: a value is missing .*float8"),
        (damage(lambda values: values.pop("end_id")), "is damaged: a value is missing or of another kind"),
        (damage(lambda values: values.update(shards=3)), "is damaged: a value is missing or of another kind"),
        (damage(lambda values: values["shards"][0].pop("max_id")), "is damaged: a value is missing"),
        (damage(lambda values: values.update(shards=[])), "holds no documents"),
        (cut("00000.tokens", 100), r"00000.tokens has 100 bytes, and .*tokens.json says \d"),
        (cut("00000.ends", 8), r"00000.ends has 8 bytes, and .*tokens.json says \d"),
        (flipped("00000.tokens", 3), "00000.tokens is not the file that .* speaks of: its bytes are others"),
        (flipped("00000.ends", -1), "00000.ends is not the file that"),
        (lambda folder: (folder / "00000.lines").unlink(), "00000.lines cannot be read: No such file"),
    ],
)
def test_what_is_no_sound_folder_is_refused_in_one_line(
    apply: Callable[[Path], Any], message: str, files: list[Path], speller: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    made = tokenizing(files, speller, tmp_path / "tokens").make()
    apply(made.path)
    with pytest.raises(DataError, match=message) as caught:
        TokenFolder.open(made.path)
    assert "\n" not in str(caught.value)


def test_damage_that_no_start_looks_at_is_found_by_comparing_all_bytes(
    files: list[Path], speller: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_bytes(files[1].read_bytes() * 4)
    made = tokenizing([rows], speller, tmp_path / "tokens").make()
    size = (made.path / "00000.tokens").stat().st_size
    assert size > 3 * 4096
    flipped("00000.tokens", size // 2 - 2048)(made.path)
    (problem,) = TokenFolder.open(made.path).damaged()
    assert problem.endswith("00000.tokens is damaged: its bytes are not those that were written")


def test_a_copied_or_renamed_folder_has_the_same_digest_and_another_text_has_not(
    files: list[Path], speller: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    made = tokenizing(files[:2], speller, tmp_path / "tokens").make()
    shutil.copytree(made.path, tmp_path / "copy")
    assert Header.read(tmp_path / "copy").digest == made.header.digest
    other = tokenizing(files[1:2], speller, tmp_path / "other").make()
    assert other.header.digest != made.header.digest


def test_a_tokenizer_is_known_by_what_it_does(
    files: list[Path], speller: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    speller.save_pretrained(tmp_path / "saved")
    assert tokenizer_digest(PreTrainedTokenizerFast.from_pretrained(tmp_path / "saved")) == tokenizer_digest(speller)
    values = json.loads((tmp_path / "saved" / "tokenizer.json").read_text())
    values["normalizer"] = {"type": "Lowercase"}
    (tmp_path / "saved" / "tokenizer.json").write_text(json.dumps(values))
    lower = PreTrainedTokenizerFast.from_pretrained(tmp_path / "saved")
    assert lower.get_vocab() == speller.get_vocab() and tokenizer_digest(lower) != tokenizer_digest(speller)


def test_a_vocabulary_beyond_16_bits_is_kept_in_32(tmp_path: Path, files: list[Path]) -> None:
    wide = train_tokenizer(["some text"], vocab_size=300, context_tokens=64)
    wide.add_tokens([f"<{number}>" for number in range(65_536)])
    (tmp_path / "text.txt").write_text("some <65535> text")
    made = tokenizing([tmp_path / "text.txt"], wide, tmp_path / "tokens").make()
    (ids,) = stream_of([made]).documents()
    assert made.header.dtype == "uint32" and made.header.max_id == max(ids) == wide.convert_tokens_to_ids("<65535>")
    narrow = train_tokenizer(["some text"], vocab_size=300, context_tokens=64)
    assert tokenizing([files[0]], narrow, tmp_path / "narrow").make().header.dtype == "uint16"


def test_memory_does_not_grow_with_the_text(
    speller: PreTrainedTokenizerFast, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 2 MB of further text a tenth is seen at most, for the sketch of its lines."""
    monkeypatch.setattr(shard_writer, "_BATCH_CHARACTERS", 20_000)
    peaks, sizes = [], []
    for number, num_rows in enumerate((8_000, 8_000, 24_000)):  # the first loads what is loaded once
        path = tmp_path / f"{number}.jsonl"
        path.write_text("".join(json.dumps({"text": f"{row} abcd abc" * 9}) + "\n" for row in range(num_rows)))
        tracemalloc.start()
        try:
            tokenizing([path], speller, tmp_path / f"tokens {number}").make()
            peaks.append(tracemalloc.get_traced_memory()[1])
        finally:
            tracemalloc.stop()
        sizes.append(path.stat().st_size)
    assert sizes[2] - sizes[1] > 2_000_000
    assert peaks[2] - peaks[1] < (sizes[2] - sizes[1]) / 4


@pytest.mark.parametrize("num_workers", [1, 2])
def test_a_full_disk_is_told_in_one_line_and_what_is_finished_is_kept(
    num_workers: int, files: list[Path], speller: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    """The largest file that a process may write is smaller than a shard's."""
    job = tokenizing(files, speller, tmp_path / "tokens", piece_bytes=5000, num_workers=num_workers)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, before[1]))
    try:
        with pytest.raises(NotWritten, match="tokens could not be written: File too large; nothing was there before"):
            job.make()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not job.output.exists()
    assert job.make().header.num_documents > 0


def test_a_file_that_is_named_twice_is_read_twice(
    files: list[Path], speller: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    made = tokenizing([files[1], files[1]], speller, tmp_path / "tokens", piece_bytes=5000).make()
    expected = [ids for (ids,) in encode_whole(read_documents(files[1]), speller)]
    assert list(stream_of([made]).documents()) == expected * 2
    (tmp_path / "bad.jsonl").write_text("\n[\n")
    with pytest.raises(DataError) as caught:
        tokenizing([tmp_path / "bad.jsonl"] * 2, speller, tmp_path / "no").make()
    assert str(caught.value).count("line 2") == 1
