"""Generated files of text, sound and broken in the ways that files of users are."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
from collections.abc import Callable, Sequence
from random import Random

NAMES = ("a.txt", "a.TXT", "a.md", "a", "a.py", "a.jsonl", "a.jsonl", "a.JSONL", "a.ndjson", "a.json", "a.Json")
OTHER_NAMES = ("a.csv", "a.parquet", "a.jsonl.bak", "a.tar", "a.xml")
ALPHABETS = (
    "abc XYZ .,!?",
    "éüßñ ¿æ",
    "中文字。，",
    "😀🎉 👩‍👩‍👧",
    "\t    \u00a0\u3000",
    "\u2028\u2029\x85\x0b\x0c\x1c\x1d\x1e\x7f",
    "\ufeff\u200b\u200d\ufffd",
    '{}[]":,\\/',
    "العربية שלום",
)
EXTRAS = ('"n": 1', '"n": -0.5e+3', '"meta": {"a": [1, 2, {"b": null}], "c": true}', '"\\u0074": "x"', '"": []')
LINE_ENDS = ("\n", "\n", "\n", "\r\n", "\n\n", "\r", "\n \t\n", "\u2028")


def file(number: int) -> tuple[str, bytes]:
    """The name and the bytes of one file; the same number gives the same."""
    random = Random(f"file/{number}")
    name = random.choice(NAMES)
    is_rows = "json" in name.lower()
    lines = [(_row if is_rows else _line)(random) for _ in range(random.choice((0, 1, 2, 3, 5, 12)))]
    if random.random() < 0.02:
        lines = [" ", " = Title = ", " ", " some text ", " = = Section = = ", "", " = Other = ", " more . "]
    text = _joined(lines, random, as_list=name.lower().endswith(".json") and random.random() < 0.5)
    if random.random() < 0.003:
        text += '{"text": "' + "ab" * random.choice((20_000, 30_000, 60_000, 90_000, 120_000, 4_500_000)) + '"}'
    data = _encoded(text, random)
    for fault in random.sample(FAULTS, random.choice((0, 0, 0, 1, 1, 2))):
        data = fault(data, random)
    name = random.choice(OTHER_NAMES) if random.random() < 0.03 else name
    return _packed(name, data, random)


def _line(random: Random) -> str:
    alphabets = random.sample(ALPHABETS, random.choice((1, 1, 2, 3)))
    return "".join(random.choice(random.choice(alphabets)) for _ in range(random.choice((0, 1, 5, 20, 60))))


def _row(random: Random) -> str:
    pairs = [f'"text": {_string(_line(random), random)}', *random.sample(EXTRAS, random.choice((0, 0, 1, 2)))]
    random.shuffle(pairs)
    blank = random.choice(("", " ", "\t", "  "))
    return "{" + blank + f",{blank}".join(pairs) + blank + "}"


def _string(text: str, random: Random) -> str:
    whole = json.dumps(text, ensure_ascii=random.random() < 0.3)
    return whole.replace("a", "\\u0061") if random.random() < 0.2 else whole


def _joined(lines: Sequence[str], random: Random, *, as_list: bool) -> str:
    if as_list:
        return "[" + ",\n".join(lines) + random.choice(("]", "\n]\n", "\n\n ]"))
    ends = [random.choice(LINE_ENDS) if random.random() < 0.4 else "\n" for _ in lines]
    text = "".join(line + end for line, end in zip(lines, ends, strict=True))
    return text if random.random() < 0.7 else text.rstrip("\n")


def _encoded(text: str, random: Random) -> bytes:
    draw = random.random()
    if draw < 0.9:
        return text.encode()
    return text.encode(random.choice(("utf-8-sig", "utf-16", "utf-16-le", "utf-32", "latin-1", "cp1252")), "replace")


def _inserted(*pieces: bytes) -> Callable[[bytes, Random], bytes]:
    def fault(data: bytes, random: Random) -> bytes:
        at = random.randrange(len(data) + 1)
        return data[:at] + random.choice(pieces) + data[at:]

    return fault


def _torn(data: bytes, random: Random) -> bytes:
    return data[: random.randrange(len(data) + 1)]


def _marked(data: bytes, random: Random) -> bytes:
    return b"\xef\xbb\xbf" * random.choice((1, 1, 2)) + data


def _joined_to_itself(data: bytes, random: Random) -> bytes:
    return b"\xef\xbb\xbf" + data + random.choice((b"", b"\n")) + b"\xef\xbb\xbf" + data


def _flipped(data: bytes, random: Random) -> bytes:
    at = random.randrange(len(data) + 1)
    return data[:at] + bytes([random.randrange(256)]) + data[at + 1 :]


FAULTS = (
    _inserted(b"\0", b"\xff", b"\xc0\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xe4\xb8", b"\x80"),
    _inserted(rb"\ud800", rb"\udc00", rb"\ud83d\ude00", rb"\u0000", rb"\x", rb"\u12"),
    _inserted(b"\r", b"\n", b"\r\n", "\u2028".encode(), "\x85".encode(), b"\xef\xbb\xbf"),
    _inserted(b"{", b"}", b"[", b"]", b'"', b",", b"NaN", b"-", b"01", b"\\", b'"text": 1, ', b'{"text": 5}\n'),
    _torn,
    _marked,
    _joined_to_itself,
    _flipped,
)


def _packed(name: str, data: bytes, random: Random) -> tuple[str, bytes]:
    draw = random.random()
    if draw < 0.85:
        return name, data
    packed = gzip.compress(data, mtime=0)
    whole = {
        "once": packed,
        "in two members": gzip.compress(data[:7], mtime=0) + gzip.compress(data[7:], mtime=0),
        "twice": gzip.compress(packed, mtime=0),
        "cut off": packed[: random.randrange(2, len(packed))],
        "with something after it": packed + b"x",
        "not at all": data,
        "as bzip2": bz2.compress(data),
        "as xz": lzma.compress(data),
    }
    return random.choice((name + ".gz", name + ".GZ", name)), whole[random.choice(sorted(whole))]
