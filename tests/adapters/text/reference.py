"""Slow readers, from the standards alone: UTF-8 by RFC 3629's table, JSON by RFC 8259's grammar, gzip by zlib.

What a file holds is a list of documents, or `Refused` with the numbers of the lines that are at fault (none where the
file as a whole is).
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from typing import Any

TEXT = {"", "txt", "text", "md", "markdown", "rst", "tex", "raw", "tokens"}
TEXT |= {"c", "cc", "cpp", "go", "h", "hpp", "java", "js", "kt", "py", "rb", "rs", "sh", "sql", "ts"}
LIMIT = 8 * 1024 * 1024
"""Bytes of one row."""


class Refused(Exception):
    def __init__(self, *lines: int) -> None:
        super().__init__(lines)
        self.lines = list(lines)


class Bad(Exception):
    """Of a line, or of the line `after` breaks behind where the value begins."""

    def __init__(self, at: int = 0) -> None:
        self.at = at


def documents(name: str, data: bytes) -> list[str]:
    parts = name.lower().split(".")[1:]
    if parts[-1:] == ["gz"]:
        parts = parts[:-1]
    suffix = parts[-1] if parts else ""
    read = of_lines if suffix in ("jsonl", "ndjson") else of_json if suffix == "json" else of_text
    if read is of_text and suffix not in TEXT:
        raise Refused
    found = [text for text in read(plain(data)) if text.strip() != ""]
    if not found:
        raise Refused
    return found


def plain(data: bytes) -> bytes:
    """Unpacked, where that is possible, and refused where it is no UTF-8."""
    if data[:2] == b"\x1f\x8b":
        data = unpacked(data)
    if data[:2] == b"\x1f\x8b" or data[:6] == b"\xfd7zXZ\0":
        raise Refused
    if data[:3] == b"BZh" and data[4:10] in (b"1AY&SY", b"\x17\x72\x45\x38\x50\x90"):
        raise Refused
    if data[:2] in (b"\xff\xfe", b"\xfe\xff") or data[:4] == b"\0\0\xfe\xff":
        raise Refused(1)
    return data


def unpacked(data: bytes) -> bytes:
    out = b""
    while data:
        member = zlib.decompressobj(wbits=31)
        try:
            out += member.decompress(data)
        except zlib.error:
            raise Refused from None
        if not member.eof:
            raise Refused
        data = member.unused_data.lstrip(b"\0")
    return out


def lines_of(data: bytes) -> list[bytes]:
    lines, line = [], bytearray()
    for byte in data:
        if byte == 10:
            lines.append(bytes(line))
            line = bytearray()
        else:
            line.append(byte)
    return [*lines, bytes(line)]


def utf8(data: bytes) -> str:
    """RFC 3629, §4. Raises `Bad`."""
    if max(data, default=0) < 0x80:
        return "".join(map(chr, data))
    out, at = [], 0
    while at < len(data):
        first = data[at]
        if first < 0x80:
            size, point, least = 1, first, 0
        elif 0xC0 <= first < 0xE0:
            size, point, least = 2, first & 0x1F, 0x80
        elif 0xE0 <= first < 0xF0:
            size, point, least = 3, first & 0x0F, 0x800
        elif 0xF0 <= first < 0xF8:
            size, point, least = 4, first & 0x07, 0x10000
        else:
            raise Bad
        for byte in data[at + 1 : at + size]:
            if not 0x80 <= byte < 0xC0:
                raise Bad
            point = point << 6 | byte & 0x3F
        if at + size > len(data) or point < least or point > 0x10FFFF or 0xD800 <= point <= 0xDFFF:
            raise Bad
        out.append(chr(point))
        at += size
    return "".join(out)


def text_of(line: bytes) -> str:
    """A line as text: without its carriage return, and without byte-order marks at its beginning."""
    if line[-1:] == b"\r":
        line = line[:-1]
    text = utf8(line)
    while text[:1] == "\ufeff":
        text = text[1:]
    if "\0" in text:
        raise Bad
    return text


def each(numbered: list[tuple[int, Any]], parse: Any) -> list[Any]:
    found, bad = [], []
    for number, one in numbered:
        try:
            found.append(parse(one))
        except Bad:
            bad.append(number)
    if bad:
        raise Refused(*bad)
    return found


def of_text(data: bytes) -> list[str]:
    lines = each(list(enumerate(lines_of(data), start=1)), text_of)
    full = [line for line in lines if line.strip() != ""]
    if full and is_heading(full[0]) and all(line[0] == " " for line in full):  # WikiText
        articles: list[list[str]] = []
        for line in full:
            if is_heading(line):
                articles.append([])
            articles[-1].append(line.strip())
        return ["\n".join(article) for article in articles]
    return ["\n".join(lines)]


def is_heading(line: str) -> bool:
    return len(line) > 6 and line[:3] == " = " and line[3] != "=" and line[-3:] == " = "


def of_lines(data: bytes) -> list[str]:
    numbered = [(number, line) for number, line in enumerate(lines_of(data), start=1) if line.strip(b" \t\r")]
    return each(numbered, row_of_line)


def row_of_line(line: bytes) -> str:
    if len(line) > LIMIT:
        raise Bad
    text = text_of(line)
    value, at = Json(text).value(skip(text, 0))
    if skip(text, at) != len(text):
        raise Bad
    return row(value)


def row(value: Any) -> str:
    if not isinstance(value, dict) or not isinstance(value.get("text"), str):
        raise Bad
    text: str = value["text"]
    if "\0" in text or any("\ud800" <= one <= "\udfff" for one in text):
        raise Bad
    return text


def of_json(data: bytes) -> list[str]:
    """A list of rows, or rows one after the other; behind what is broken nothing is read."""
    text = "\n".join(each(list(enumerate(lines_of(data), start=1)), text_of))
    values: list[tuple[int, Any]] = []
    broken: list[int] = []

    def line(at: int) -> int:
        return 1 + sum(one == "\n" for one in text[:at])

    at = skip(text, 0)
    is_list = text[at : at + 1] == "["
    at = skip(text, at + 1) if is_list else at
    while at < len(text) and not (is_list and text[at] == "]"):
        begin = at
        try:
            value, end = Json(text).value(at)
        except Bad as bad:
            broken.append(line(max(bad.at, begin)))
            break
        at = skip(text, end)
        if is_list and text[at : at + 1] == ",":
            at = skip(text, at + 1)
            if text[at : at + 1] in ("]", ""):
                broken.append(line(at))
                break
        elif (is_list and text[at : at + 1] != "]") or (not is_list and at < len(text) and "\n" not in text[end:at]):
            broken.append(line(at))
            break
        values.append((line(begin), value))
    if is_list and not broken and (text[at : at + 1] != "]" or skip(text, at + 1) != len(text)):
        broken.append(line(skip(text, at + 1)))
    try:
        found = each(values, row)
    except Refused as refused:
        raise Refused(*refused.lines, *broken) from None
    if broken:
        raise Refused(*broken)
    return found


def skip(text: str, at: int) -> int:
    while at < len(text) and text[at] in " \t\n\r":
        at += 1
    return at


class Json:
    """RFC 8259, by recursive descent. A key that stands twice is refused (§4 calls it unpredictable)."""

    ESCAPES: Mapping[str, str] = {'"': '"', "\\": "\\", "/": "/", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}

    def __init__(self, text: str) -> None:
        self.text = text

    def value(self, at: int) -> tuple[Any, int]:
        text = self.text
        for word, value in (("null", None), ("true", True), ("false", False)):
            if text[at : at + len(word)] == word:
                return value, at + len(word)
        if text[at : at + 1] == '"':
            return self.string(at)
        if text[at : at + 1] == "{":
            return self.object(at)
        if text[at : at + 1] == "[":
            return self.array(at)
        return self.number(at)

    def object(self, at: int) -> tuple[Any, int]:
        found: dict[str, Any] = {}
        at = skip(self.text, at + 1)
        if self.text[at : at + 1] == "}":
            return found, at + 1
        while True:
            key, at = self.string(at)
            if key in found:
                raise Bad
            at = self.mark(":", skip(self.text, at))
            found[key], at = self.value(skip(self.text, at))
            at = skip(self.text, at)
            if self.text[at : at + 1] == "}":
                return found, at + 1
            at = skip(self.text, self.mark(",", at))

    def array(self, at: int) -> tuple[Any, int]:
        found: list[Any] = []
        at = skip(self.text, at + 1)
        if self.text[at : at + 1] == "]":
            return found, at + 1
        while True:
            value, at = self.value(at)
            found.append(value)
            at = skip(self.text, at)
            if self.text[at : at + 1] == "]":
                return found, at + 1
            at = skip(self.text, self.mark(",", at))

    def mark(self, mark: str, at: int) -> int:
        if self.text[at : at + 1] != mark:
            raise Bad(at)
        return at + 1

    def string(self, at: int) -> tuple[str, int]:
        units: list[str] = []
        at = self.mark('"', at)
        while self.text[at : at + 1] != '"':
            one = self.text[at : at + 1]
            if one == "" or one < " ":
                raise Bad(at)
            at += 1
            if one == "\\":
                one, at = self.escape(at)
            units.append(one)
        return joined("".join(units)), at + 1

    def escape(self, at: int) -> tuple[str, int]:
        kind = self.text[at : at + 1]
        if kind == "u":
            digits = self.text[at + 1 : at + 5]
            if len(digits) < 4 or any(one not in "0123456789abcdefABCDEF" for one in digits):
                raise Bad(at)
            return chr(int(digits, 16)), at + 5
        if kind not in self.ESCAPES or kind == "":
            raise Bad(at)
        return self.ESCAPES[kind], at + 1

    def number(self, at: int) -> tuple[float, int]:
        begin = at
        if self.text[at : at + 1] == "-":
            at += 1
        at = at + 1 if self.text[at : at + 1] == "0" else self.digits(at)
        if self.text[at : at + 1] == "." and self.text[at + 1 : at + 2] in tuple("0123456789"):
            at = self.digits(at + 1)
        if self.text[at : at + 1] in ("e", "E"):
            sign = at + 1 if self.text[at + 1 : at + 2] in ("+", "-") else at
            if self.text[sign + 1 : sign + 2] in tuple("0123456789"):
                at = self.digits(sign + 1)
        return float(self.text[begin:at]), at

    def digits(self, at: int) -> int:
        begin = at
        while at < len(self.text) and self.text[at] in "0123456789":
            at += 1
        if at == begin:
            raise Bad(at)
        return at


def joined(text: str) -> str:
    """Halves of surrogate pairs that stand side by side are one character (§7)."""
    out: list[str] = []
    for one in text:
        if out and "\ud800" <= out[-1] <= "\udbff" and "\udc00" <= one <= "\udfff":
            one = chr(0x10000 + (ord(out.pop()) - 0xD800 << 10) + ord(one) - 0xDC00)
        out.append(one)
    return "".join(out)
