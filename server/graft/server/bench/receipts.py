"""What a trainer leaves beside an adapter: its record and reference log-probabilities (transformers and peft)."""

from __future__ import annotations

import asyncio
import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from graft.adapters.base import Base
from graft.adapters.form import ServingForm
from graft.server.bench.adapters import add_training_record
from graft.server.bench.arrivals import token_ids
from graft.server.bench.processes import BenchFailed

_NUM_ROWS, _NUM_TOKENS, _NUM_PROMPT_TOKENS = 8, 32, 16
_REFERENCE = "reference.json"


async def add_receipts(base: Base, form: ServingForm, folders: Sequence[Path]) -> None:
    """Write `graft.json` and `reference.json` into every folder that has none. Raises `BenchFailed`."""
    missing = [folder for folder in folders if not (folder / _REFERENCE).exists()]
    for folder in missing:
        add_training_record(base, form, folder)
    if not missing:
        return
    rows = [token_ids(_NUM_TOKENS, base.vocab_size, seed=f"reference/{number}") for number in range(_NUM_ROWS)]
    for folder, logprobs in zip(missing, await _logprobs(base, form, missing, rows), strict=True):
        recorded = [
            {
                "token_ids": row,
                "num_prompt_tokens": _NUM_PROMPT_TOKENS,
                "logprobs": [round(each, 6) for each in found[_NUM_PROMPT_TOKENS - 1 :]],
            }
            for row, found in zip(rows, logprobs, strict=True)
        ]
        (folder / _REFERENCE).write_text(json.dumps({"form": form.value, "rows": recorded}) + "\n", encoding="utf-8")


def share_receipts(originals: Sequence[Path], variants: Sequence[Path]) -> None:
    """Give each variant its original's receipt: the scales differ by less than the receipt's tolerance."""
    for index, variant in enumerate(variants):
        for name in ("graft.json", _REFERENCE):
            if not (variant / name).exists():
                shutil.copy(originals[index % len(originals)] / name, variant / name)


async def _logprobs(base: Base, form: ServingForm, folders: Sequence[Path], rows: list[list[int]]) -> list[Any]:
    """One answer of the server's own peft process per folder."""
    command = [sys.executable, "-m", "graft.server.engine.peft_reference", str(base.path), form.value]
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        limit=1 << 24,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    answers = []
    try:
        for folder in folders:
            process.stdin.write((json.dumps({"folder": str(folder), "rows": rows}) + "\n").encode())
            answer = json.loads(await process.stdout.readline() or b'{"error": "the process ended"}')
            if "error" in answer:
                raise BenchFailed(f"no reference log-probabilities: {answer['error']}")
            answers.append(answer["logprobs"])
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
    return answers
