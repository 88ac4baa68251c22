"""How an answer is read from what a model said. Pure; every way takes time linear in the text."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from graft.server.errors import NoAnswer
from graft.server.prompting.patterns import MAX_SEARCHED, compiled
from graft.server.prompting.program.program import Extraction
from graft.server.runtime.violations import shown

MAX_OBJECTS = 64
"""Places where a JSON object is looked for in one text."""

# As Kojima et al. 2022 (arXiv:2205.11916, appendix A.6) read numbers, with the commas of thousands taken out.
_NUMBER = re.compile(r"(?:(?<![\w.)\]])[-\u2212])?(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?", re.ASCII)
# "U.S." and "e.g." keep their last stop.
_ABBREVIATED = re.compile(r"\.[^\W\d_]\.$")


@dataclass(frozen=True, kw_only=True)
class Found:
    """An answer, and where in the text what leads to it ends."""

    answer: str
    begin: int


def extract(text: str, extraction: Extraction, *, choices: Sequence[str] = ()) -> Found:
    """The answer in `text`. Raises `NoAnswer`, which says what was looked for; `whole` always finds one."""
    return _METHODS[extraction.method](text, extraction, choices)


def last_line(text: str) -> Found:
    """The last line that is not blank: where demonstrations show a rationale, a line's end and the answer."""
    said = text.rstrip()
    begin = said.rfind("\n") + 1
    return _trimmed(said, begin)


def _whole(text: str, extraction: Extraction, choices: Sequence[str]) -> Found:
    return Found(answer=text.strip(), begin=0)


def _first_line(text: str, extraction: Extraction, choices: Sequence[str]) -> Found:
    begin = len(text) - len(text.lstrip())
    return Found(answer=_line(text, begin), begin=begin)


def _after(text: str, extraction: Extraction, choices: Sequence[str]) -> Found:
    """The rest of the marker's line, or the next line with text; without a full stop at the end."""
    marker = extraction.marker or ""
    at = text.rfind(marker)
    if at < 0 or not marker:
        raise _missing(f"the marker {shown(marker)} is not in what the model said", text)
    behind = at + len(marker)
    answer = without_full_stop(_line(text, behind + len(text[behind:]) - len(text[behind:].lstrip())))
    if not answer:
        raise _missing(f"nothing stands after the marker {shown(marker)} in what the model said", text)
    return Found(answer=answer, begin=at)


def _last_number(text: str, extraction: Extraction, choices: Sequence[str]) -> Found:
    last = None
    for match in _NUMBER.finditer(text):
        last = match
    if last is None:
        raise _missing("there is no number in what the model said", text)
    return Found(answer=last.group().replace(",", "").replace("\u2212", "-"), begin=last.start())


def _regex(text: str, extraction: Extraction, choices: Sequence[str]) -> Found:
    pattern = compiled(extraction.pattern or "")
    match = pattern.last(text)
    number = 1 if pattern.num_groups else 0
    answer = None if match is None else match.group(number)
    if match is None or answer is None:
        raise _missing(f"the pattern {shown(extraction.pattern)} is not in what the model said", text)
    return Found(answer=answer, begin=max(0, len(text) - MAX_SEARCHED) + match.start(0))


def _json(text: str, extraction: Extraction, choices: Sequence[str]) -> Found:
    """The field of the last object that has it, or the last object."""
    last = None
    for begin, value in _objects(text):
        if extraction.field is None or extraction.field in value:
            last = begin, value
    if last is None:
        wanted = "JSON object" if extraction.field is None else f"JSON object with the field {shown(extraction.field)}"
        raise _missing(f"there is no {wanted} in what the model said", text)
    begin, value = last
    answer: Any = value if extraction.field is None else value[extraction.field]
    return Found(answer=answer if isinstance(answer, str) else json.dumps(answer, ensure_ascii=False), begin=begin)


def _choice(text: str, extraction: Extraction, choices: Sequence[str]) -> Found:
    """The one choice that the text is or names: as it is written, else whatever the letters' case."""
    for fold in (str, str.casefold):
        folded = [fold(choice) for choice in choices]
        said = fold(without_full_stop(text.strip()))
        if folded.count(said) == 1:
            return Found(answer=choices[folded.index(said)], begin=0)
        named = _named(fold(text), folded)
        if len(named) == 1:
            ((index, begin),) = named.items()
            return Found(answer=choices[index], begin=begin if fold is str else 0)
        if named:
            both = " and ".join(shown(choices[index]) for index in list(named)[:2])
            raise _missing(f"the model named more than one choice, {both}", text)
    raise _missing("the model named none of the choices", text)


_METHODS: Mapping[str, Callable[[str, Extraction, Sequence[str]], Found]] = {
    "whole": _whole,
    "first_line": _first_line,
    "after": _after,
    "last_number": _last_number,
    "regex": _regex,
    "json": _json,
    "choice": _choice,
}


def without_full_stop(text: str) -> str:
    """The text without the full stop that ends its sentence."""
    return text[:-1].rstrip() if text.endswith(".") and not _ABBREVIATED.search(text) else text


def _trimmed(text: str, begin: int) -> Found:
    return Found(answer=text[begin:].strip(), begin=begin)


def _line(text: str, begin: int) -> str:
    end = text.find("\n", begin)
    return text[begin : end if end >= 0 else len(text)].strip()


def _objects(text: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """The outermost JSON objects in a text, with where they begin."""
    decoder = json.JSONDecoder()
    begin = text.find("{")
    for _ in range(MAX_OBJECTS):
        if begin < 0:
            return
        try:
            value, end = decoder.raw_decode(text, begin)
        except (ValueError, RecursionError):
            end = begin + 1
        else:
            yield begin, value
        begin = text.find("{", end)


def _named(text: str, choices: Sequence[str]) -> dict[int, int]:
    """Indices of the choices that stand in the text as words of their own, with their first place.

    One that is part of a longer one there is not named: "entailment" in "not entailment".
    """
    found: dict[int, int] = {}
    free = bytearray(b"\1") * len(text)
    for index in sorted(range(len(choices)), key=lambda index: -len(choices[index])):
        choice = choices[index]
        at = text.find(choice) if choice else -1
        while at >= 0:
            end = at + len(choice)
            if free[at] and _is_whole_word(text, at, end):
                found.setdefault(index, at)
                free[at:end] = bytes(len(choice))
            at = text.find(choice, end)
    return dict(sorted(found.items(), key=lambda item: item[1]))


def _is_whole_word(text: str, begin: int, end: int) -> bool:
    before = begin > 0 and text[begin - 1].isalnum() and text[begin].isalnum()
    behind = end < len(text) and text[end].isalnum() and text[end - 1].isalnum()
    return not before and not behind


def _missing(problem: str, text: str) -> NoAnswer:
    return NoAnswer(problem, said=shown(text.strip()))
