"""Lines of a file in parts are its lines; what is wrong with one is said as for the whole file."""

from __future__ import annotations

import gzip
import json
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graft.adapters.text.documents import read_documents, text_of
from graft.adapters.text.json_values import MAX_ROW_BYTES
from graft.adapters.text.line_range import LineRange
from graft.adapters.text.problems import UnreadableText, unreadable

LINES = [
    '{"text": "a"}',
    '{"text": "é\\n"}',
    '{"text": " "}',
    "",
    " \r",
    '{"txt": 1}',
    "[",
    '\ufeff{"text": "\u2028"}\r',
]


def told(path: Path, ranges: list[LineRange]) -> str:
    """As whoever reads the ranges of a file tells its bad lines."""
    problems, before = [], 0
    for one in ranges:
        problems += [(before + number, problem) for number, problem in one.problems]
        before += one.num_lines
    return str(unreadable(path, problems, sum(one.num_bad for one in ranges)))


@given(st.lists(st.sampled_from(LINES), max_size=200), st.lists(st.integers(0, 3000), max_size=4), st.booleans())
def test_parts_together_are_the_file(
    tmp_path_factory: pytest.TempPathFactory, lines: list[str], cuts: list[int], is_ended: bool
) -> None:
    path = tmp_path_factory.getbasetemp() / "rows.jsonl"
    path.write_bytes(("\n".join(lines) + "\n" * is_ended).encode())
    size = path.stat().st_size
    bounds = sorted({0, size, *(cut for cut in cuts if cut < size)})
    ranges = [LineRange(path=path, begin=begin, end=end) for begin, end in pairwise(bounds)]
    found = [text for one in ranges for text in one.values(text_of)]
    whole = LineRange(path=path)
    assert found == list(whole.values(text_of))
    assert told(path, ranges) == told(path, [whole])
    try:
        documents = read_documents(path)
    except UnreadableText as error:
        assert str(error) == (told(path, ranges) if whole.num_bad else f"{path} holds no text.")
    else:
        assert documents == [text for text in found if text.strip()] and not whole.num_bad


@pytest.mark.parametrize("excess", [-1, 0, 1, 2, MAX_ROW_BYTES])
def test_a_line_that_is_too_long_is_measured_and_passed_over(tmp_path: Path, excess: int) -> None:
    path = tmp_path / "long.jsonl"
    frame = len(json.dumps({"text": ""}))
    path.write_text(json.dumps({"text": "x" * (MAX_ROW_BYTES - frame + excess)}) + '\n{"text": "next"}\n')
    lines = LineRange(path=path)
    found = [len(text) for text in lines.values(text_of)]
    assert found[-1] == 4 and lines.num_lines == 2 and len(found) == (2 if excess <= 0 else 1)
    with pytest.raises(UnreadableText) if excess > 0 else pytest.MonkeyPatch.context() as caught:
        read_documents(path)
    if excess > 0:
        assert str(caught.value) == told(path, [lines]) and f"{MAX_ROW_BYTES + excess:,} bytes" in told(path, [lines])


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"\xff\xfea\0", "the file is UTF-16"),
        (b"BZh91AY&SY\0\x01", "compressed with bzip2"),
        (gzip.compress(gzip.compress(b"{}", mtime=0), mtime=0), "compressed twice"),
        (gzip.compress(b'{"text": "abc"}\n' * 9999, mtime=0)[:-20], "is damaged, it cannot be unpacked"),
        (None, "cannot be read: No such file"),
    ],
)
def test_what_is_no_file_of_lines_is_refused_as_ever(tmp_path: Path, content: bytes | None, problem: str) -> None:
    path = tmp_path / "rows.jsonl"
    if content is not None:
        path.write_bytes(content)
    for read in (lambda: list(LineRange(path=path).values(text_of)), lambda: read_documents(path)):
        with pytest.raises(UnreadableText, match=problem):
            read()


def test_compressed_lines_are_read_as_a_stream(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl.gz"
    path.write_bytes(gzip.compress(b'{"text": "a"}\n{"text": "b"}'))
    assert list(LineRange(path=path).values(text_of)) == ["a", "b"] == read_documents(path)
