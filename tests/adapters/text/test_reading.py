"""Files of text are read as what they are, or refused by file and line."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from graft.adapters.text.documents import read_documents
from graft.adapters.text.file import read_lines, read_text
from graft.adapters.text.problems import UnreadableText

CODE = "def f(x):\n    if x:\n\n        return [1,\n\t2]\n"
ROWS = '{"text": "one"}\n{"text": "two"}\n'


def write(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.mark.parametrize("name", ["a.txt", "a.md", "a.TXT", "a.py", "a"])
def test_text_is_what_stands_in_the_file(tmp_path: Path, name: str) -> None:
    assert read_documents(write(tmp_path, name, CODE)) == [CODE]


@pytest.mark.parametrize("name", ["a.jsonl", "a.JSONL", "a.ndjson", "a.json"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_rows_by_their_suffix(tmp_path: Path, name: str, mark: str) -> None:
    assert read_documents(write(tmp_path, name, mark + ROWS)) == ["one", "two"]


@pytest.mark.parametrize("text", ['[{"text": "one"},\n {"text": "two"}]', '{\n"text": "one"\n}\n\n{"text":\n"two"}'])
def test_a_json_document_is_a_list_or_values_one_after_the_other(tmp_path: Path, text: str) -> None:
    assert read_documents(write(tmp_path, "a.json", text)) == ["one", "two"]


@pytest.mark.parametrize("separator", ["\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\x1c", "\x1d", "\x1e", "\r"])
def test_lines_end_at_the_newline_alone(tmp_path: Path, separator: str) -> None:
    text = f"a{separator}b"
    assert read_lines(write(tmp_path, "a.txt", f"{text}\r\nc\n")) == [(1, text), (2, "c")]
    if separator > "\x7f":
        assert read_documents(write(tmp_path, "a.jsonl", f'{{"text": "{text}"}}')) == [text]


def test_a_byte_order_mark_is_no_text_wherever_a_file_began(tmp_path: Path) -> None:
    assert read_text(write(tmp_path, "a.txt", "\ufeffone\n\ufefftwo")) == "one\ntwo"


@pytest.mark.parametrize("name", ["a.jsonl.gz", "a.jsonl", "a.JSON.GZ"])
def test_what_is_compressed_is_unpacked(tmp_path: Path, name: str) -> None:
    assert read_documents(write(tmp_path, name, gzip.compress(ROWS.encode()))) == ["one", "two"]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.txt", b"one\ntwo \xe9\n", "line 2: byte 5 is not UTF-8; save the file as UTF-8"),
        ("a.txt", b"one\nt\0o\n", "line 2: NUL character at position 2"),
        ("a.txt", "text".encode("utf-16"), "line 1: the file is UTF-16, not UTF-8"),
        ("a.txt", b"\xed\xa0\x80", "line 1: byte 1 is not UTF-8"),
        ("a.txt", b"\xef\xbb\xbf", "holds no text"),
        ("a.csv", b"x", "'.csv' is no known kind of text; use .txt or .jsonl"),
        ("a.jsonl", rb'{"text": "\ud800"}', r"line 1: half a surrogate pair \(\\ud800\) at position 1"),
        ("a.jsonl", rb'{"text": "a\u0000"}', "line 1: NUL character at position 2"),
        ("a.jsonl", b'{"text": "a"}\n{"text": "b', "line 2: broken JSON at column 10: unterminated string"),
        ("a.jsonl", b'{"text": "a"} {"text": "b"}', "line 1: broken JSON at column 15: more than one value"),
        ("a.jsonl", b'\n{"text": "a", "text": "b"}', "line 2: the key 'text' stands twice"),
        ("a.jsonl", b'{"text": "a", "n": NaN}', "line 1: NaN is no JSON number"),
        ("a.jsonl", b'{"text": "a", "n": ' + b"1" * 5000 + b"}", "line 1: a number of more digits"),
        ("a.jsonl", b'{"text": "' + b"a" * 10_000_000 + b'"}', "line 1: 10,000,012 bytes in one row; 8,388,608 are"),
        ("a.json", b'[{"text": "a"},\n{"text": "b"}', "line 2: broken JSON: between the rows of a list"),
        ("a.json", b'[{"text": "a"},\n]', "line 2: broken JSON: between the rows of a list"),
        ("a.json", b'[{"text": "a"}]\n[]', "line 2: broken JSON: the list is not closed, or something follows"),
        ("a.json", b'{"text": "a"} {"text": "b"}', "line 1: broken JSON: two values in one line"),
        ("a.json", b'{"text": "a"}\n{"text":\n\n oh}', "line 4: broken JSON at column 2: expecting value"),
        ("a.gz", gzip.compress(gzip.compress(b"x", mtime=0), mtime=0), "compressed twice"),
        ("a.txt.gz", gzip.compress(b"x" * 100, mtime=0)[:-9], "damaged"),
        ("a.txt", b"\x28\xb5\x2f\xfd\0", "compressed with zstd; unpack it"),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path: Path, name: str, content: bytes, said: str) -> None:
    with pytest.raises(UnreadableText, match=said) as caught:
        read_documents(write(tmp_path, name, content))
    assert str(tmp_path / name) in str(caught.value)


def test_all_bad_lines_are_named_at_once(tmp_path: Path) -> None:
    with pytest.raises(UnreadableText) as caught:
        read_documents(write(tmp_path, "a.jsonl", b'{"text": "a"}\n{\n\n\xff\n{"tex": 1}\n'))
    assert [line.split(", ")[1].split(":")[0] for line in str(caught.value).split("\n")] == [
        "line 2",
        "line 4",
        "line 5",
    ]
