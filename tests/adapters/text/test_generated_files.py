"""Whatever a file holds, what is read is what slow readers from the standards read, or both refuse the same lines."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from graft.adapters.text.documents import read_documents
from graft.adapters.text.problems import MAX_REPORTED, UnreadableText
from tests.adapters.text import reference
from tests.adapters.text.files import file


def check(number: int, folder: Path) -> bool:
    """Whether the file was sound."""
    name, data = file(number)
    path = folder / name
    path.write_bytes(data)
    try:
        expected = reference.documents(name, data)
    except reference.Refused as refused:
        with pytest.raises(UnreadableText) as caught:
            read_documents(path)
        told = str(caught.value)
        assert str(path) in told, number
        lines = [int(one) for one in re.findall(r"(?m)^.*?, line (\d+): ", told)]
        assert lines == refused.lines[:MAX_REPORTED], (number, told)
        return False
    assert read_documents(path) == expected, number
    return True


def test_some_files(tmp_path: Path) -> None:
    sound = [check(number, tmp_path) for number in range(400)]
    assert 100 < sum(sound) < 300  # the generator makes both kinds


@pytest.mark.slow
def test_ten_thousand_files(tmp_path: Path) -> None:
    for number in range(400, 10_400):
        check(number, tmp_path)
