"""A form with one file (RFC 7578), read as it comes: the file's bytes go where they are kept, never into memory."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import ClientDisconnect, Request

from graft.server.api.http.sse import ClientGone
from graft.server.errors import BadInput, DeadlineExceeded, TooLarge, Violation

FILE_FIELD = "file"
# A caller that sends nothing for so long is let go; how long the whole takes depends on its size.
_SILENT_SECONDS = 30.0
_MAX_FIELDS = 32
_MAX_FIELD_BYTES = 4_096
# What a form may be beside its file.
_FORM_BYTES = 2 * _MAX_FIELDS * _MAX_FIELD_BYTES


@dataclass(kw_only=True)
class Form:
    """The texts by the names of their fields; `filename` is None where no file came."""

    texts: dict[str, str] = field(default_factory=dict)
    filename: str | None = None


async def read_form(request: Request, write: Callable[[bytes], Awaitable[None]], *, max_bytes: int) -> Form:
    """Read the form; `write` gets the bytes of its file, of which there may be `max_bytes`.

    Raises `BadInput`, `TooLarge`, `DeadlineExceeded` after 30 s without a byte, `ClientGone`, and what `write` does.
    """
    announced = request.headers.get("content-length", "")
    if announced.isdigit() and int(announced) > max_bytes + _FORM_BYTES:
        raise TooLarge(f"the body has {announced} bytes; a file may have {max_bytes}")
    reader = _Reader(_boundary(request))
    parts = aiter(request.stream())
    num_bytes = 0
    try:
        while (chunk := await _next(parts)) is not None:
            num_bytes += len(chunk)
            # One that comes in pieces announces nothing, and what stands before and behind a form has no end.
            if num_bytes > max_bytes + _FORM_BYTES:
                raise TooLarge(f"the body has more than {max_bytes + _FORM_BYTES} bytes; a file may have {max_bytes}")
            for data in reader.read(chunk):
                await write(data)
        reader.end()
    except ClientDisconnect:
        raise ClientGone from None
    except TimeoutError:
        raise DeadlineExceeded(f"no byte of the request's body arrived for {_SILENT_SECONDS:g} s") from None
    except FormParserError as error:
        raise _bad("body", f"is no form of multipart/form-data: {error}") from None
    return reader.form


async def _next(parts: object) -> bytes | None:
    async with asyncio.timeout(_SILENT_SECONDS):
        return await anext(parts, None)  # type: ignore[call-overload, no-any-return]


def _boundary(request: Request) -> bytes:
    kind, options = parse_options_header(request.headers.get("content-type", ""))
    boundary = options.get(b"boundary", b"")
    if kind != b"multipart/form-data" or not boundary:
        raise _bad("content-type", "must be multipart/form-data with a boundary: send the file as a form")
    return boundary


class _Reader:
    """The parser's callbacks: headers of a part, then its bytes."""

    def __init__(self, boundary: bytes) -> None:
        self.form = Form()
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._begin,
                "on_header_field": self._header_name,
                "on_header_value": self._header_value,
                "on_header_end": self._header_end,
                "on_headers_finished": self._headers_end,
                "on_part_data": self._data,
                "on_part_end": self._end,
                "on_end": self._complete,
            },
        )
        self._is_complete = False
        self._of_file: list[bytes] = []
        self._begin()

    def read(self, chunk: bytes) -> list[bytes]:
        """Take what came; returns what of it belongs to the file."""
        self._parser.write(chunk)
        found, self._of_file = self._of_file, []
        return found

    def end(self) -> None:
        """Nothing more comes. Raises `BadInput` where the form is cut off."""
        self._parser.finalize()
        if not self._is_complete:
            raise _bad("body", "ends before the form does")

    def _begin(self) -> None:
        self._name, self._value = bytearray(), bytearray()
        self._disposition = b""
        self._field = ""
        self._is_file = False
        self._text = bytearray()

    def _header_name(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _header_end(self) -> None:
        if self._name.lower() == b"content-disposition":
            self._disposition = bytes(self._value)
        self._name, self._value = bytearray(), bytearray()

    def _headers_end(self) -> None:
        _, options = parse_options_header(self._disposition)
        self._field = _text(options.get(b"name", b""))
        self._is_file = b"filename" in options
        if not self._field:
            raise _bad("body", "has a part without a name in its content-disposition")
        if self._field in self.form.texts or (self._is_file and self.form.filename is not None):
            raise _bad(self._field, "is given twice")
        if self._is_file != (self._field == FILE_FIELD):
            kind = "a text" if self._field == FILE_FIELD else "a file"
            raise _bad(self._field, f"was sent as {kind}; a form has one file, with a filename, in `{FILE_FIELD}`")
        if self._is_file:
            self.form.filename = _text(options[b"filename"])
        elif len(self.form.texts) >= _MAX_FIELDS:
            raise _bad("body", f"has more than {_MAX_FIELDS} fields, the limit")

    def _data(self, data: bytes, start: int, end: int) -> None:
        if self._is_file:
            self._of_file.append(data[start:end])
        elif len(self._text) + end - start > _MAX_FIELD_BYTES:
            raise _bad(self._field, f"has more than {_MAX_FIELD_BYTES} bytes, the limit of a text in a form")
        else:
            self._text += data[start:end]

    def _end(self) -> None:
        if not self._is_file:
            self.form.texts[self._field] = _text(bytes(self._text))

    def _complete(self) -> None:
        self._is_complete = True


def _text(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data.decode("latin-1")  # RFC 7578, section 5.1.2: what browsers of before wrote


def _bad(name: str, problem: str) -> BadInput:
    return BadInput(Violation(field=name[:40], problem=problem))
