"""An audit as text: in colours where a terminal shows them, with brackets around what is learned where not."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict

from graft.machine.control_characters import harmless
from graft.training.finetune.audit.audit import Audit, FileAudit, Numbered, ShownExample

MAX_LISTED = MAX_NUMBERED = 20
"""Reasons of a list, and rows of one reason; the page and the JSON have all."""
_LEARNED, _QUIET, _BAD, _END = "\x1b[1;32m", "\x1b[2m", "\x1b[31m", "\x1b[0m"
_BAR = 30


def told(audit: Audit, *, colours: bool) -> str:
    lines = [f"What a fine-tuning of {audit.base} would learn"]
    for file in audit.files:
        lines += ["", *_file(file, colours)]
    if audit.examples:
        marked = f"{_LEARNED}so{_END}" if colours else "⟦so⟧"
        lines += ["", f"The first examples; what carries loss is written {marked}:"]
    for example in audit.examples:
        lines += ["", f"{example.path}, {example.number}:", _example(example, colours)]
    return "\n".join(lines)


def as_json(audit: Audit) -> str:
    return json.dumps({**asdict(audit), "sound": audit.is_sound}, default=str, ensure_ascii=False)


def _file(file: FileAudit, colours: bool) -> Iterator[str]:
    share = f", {file.weight:g} by weight" if file.weight is not None else ""
    learned = file.num_learned / file.num_tokens if file.num_tokens else 0.0
    yield f"{file.path}: {_rows(file.num_rows)}{share}"
    yield f"  {file.num_examples:,} example{'' if file.num_examples == 1 else 's'}, {file.num_tokens:,} tokens"
    yield f"  {file.num_learned:,} tokens carry loss ({learned:.0%})"
    most = max((num for _, num in file.lengths), default=1)
    for length, num in file.lengths:
        yield f"  up to {length:>7,} tokens {'█' * -(-num * _BAR // most):<{_BAR}} {num:,}"
    for note in file.notes:
        yield f"  {note}"
    if file.held_out:
        yield f"  {_are(len(file.held_out))} also measured on, which flatters: {_numbered(file.held_out, file.unit)}"
    yield from _listed("cut", file.cut, file.unit)
    yield from _listed("dropped", file.dropped, file.unit)
    for line in _listed("refused: no training begins", file.refused, file.unit):
        yield f"{_BAD}{line}{_END}" if colours else line


def _listed(what: str, rows: Sequence[Numbered], unit: str) -> Iterator[str]:
    if rows:
        yield f"  {_are(len(rows))} {what}"
    by_reason = dict[str, list[int]]()
    for number, reason in rows:
        by_reason.setdefault(reason, []).append(number)
    for reason, numbers in list(by_reason.items())[:MAX_LISTED]:
        yield f"    {_numbered(numbers, unit)}: {harmless(reason)}"
    if rest := sum(map(len, list(by_reason.values())[MAX_LISTED:])):
        yield f"    … and {rest} more"


def _numbered(numbers: Sequence[int], unit: str) -> str:
    """``line 3``, or the first of many lines and how many they are."""
    if len(numbers) == 1:
        return f"{unit} {numbers[0]}"
    first = ", ".join(map(str, numbers[:MAX_NUMBERED]))
    return f"{unit}s {first}" + (f" … ({len(numbers)} in all)" if len(numbers) > MAX_NUMBERED else "")


def _are(num: int) -> str:
    return f"{_rows(num)} {'is' if num == 1 else 'are'}"


def _rows(num: int) -> str:
    return "1 row" if num == 1 else f"{num:,} rows"


def _example(example: ShownExample, colours: bool) -> str:
    pieces = [(harmless(text), is_learned) for text, is_learned in example.pieces]
    if not colours:
        return "".join(f"⟦{text}⟧" if is_learned else text for text, is_learned in pieces)
    return "".join(f"{_LEARNED if is_learned else _QUIET}{text}{_END}" for text, is_learned in pieces)
