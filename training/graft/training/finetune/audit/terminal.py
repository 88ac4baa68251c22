"""An audit as text: in colours where a terminal shows them, with brackets around what is learned where not."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict

from graft.training.finetune.audit.audit import Audit, FileAudit, Numbered, ShownExample

MAX_LISTED = 20
"""Rows of one reason's list; the page and the JSON have all."""
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
    yield f"{file.path}: {file.num_rows:,} rows{share}"
    yield f"  {file.num_examples:,} examples, {file.num_tokens:,} tokens"
    yield f"  {file.num_learned:,} tokens carry loss ({learned:.0%})"
    most = max((num for _, num in file.lengths), default=1)
    for length, num in file.lengths:
        yield f"  up to {length:>7,} tokens {'█' * -(-num * _BAR // most):<{_BAR}} {num:,}"
    for note in file.notes:
        yield f"  {note}"
    if file.held_out:
        numbers = ", ".join(map(str, file.held_out[:MAX_LISTED])) + (" …" if len(file.held_out) > MAX_LISTED else "")
        yield f"  {len(file.held_out)} rows are also measured on, which flatters: {file.unit}s {numbers}"
    yield from _listed("cut", file.cut, file.unit)
    yield from _listed("dropped", file.dropped, file.unit)
    for line in _listed("refused: no training begins", file.refused, file.unit):
        yield f"{_BAD}{line}{_END}" if colours else line


def _listed(what: str, rows: Sequence[Numbered], unit: str) -> Iterator[str]:
    if rows:
        yield f"  {len(rows)} rows are {what}"
    for number, reason in rows[:MAX_LISTED]:
        yield f"    {unit} {number}: {reason}"
    if len(rows) > MAX_LISTED:
        yield f"    … and {len(rows) - MAX_LISTED} more"


def _example(example: ShownExample, colours: bool) -> str:
    if not colours:
        return "".join(f"⟦{text}⟧" if is_learned else text for text, is_learned in example.pieces)
    return "".join(f"{_LEARNED if is_learned else _QUIET}{text}{_END}" for text, is_learned in example.pieces)
