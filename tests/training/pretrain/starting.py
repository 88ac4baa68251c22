"""What the start of a training takes: written as JSON by a process of its own, after everything is imported.

Arguments: folder, folder of a tokenizer, folder of tokens, file for the figures. The training before it, on a small
folder, loads what is loaded once in a process; then the clock starts where the job begins to read, and stops when the
first step is reported.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from transformers import AutoTokenizer

from graft.training.corpus.shards.files import ShardFileWriter
from graft.training.corpus.shards.header import DTYPES, ENDS, FILE, LINES, TOKENS, WORD, Header, Shard
from graft.training.corpus.shards.spelled import tokenizer_digest
from graft.training.launch.processes import Processes
from graft.training.pretrain import job as jobs
from graft.training.pretrain.job import PretrainText
from graft.training.pretrain.settings import PretrainSettings

END, FIRST, PER_DOCUMENT = 2, 10, 500


def write_tokens(folder: Path, tokenizer_folder: Path, *, num_shards: int, tokens_per_shard: int, highest: int) -> None:
    """A folder of random tokens of two bytes each, in documents of 500."""
    folder.mkdir(parents=True)
    tokenizer = AutoTokenizer.from_pretrained(tokenizer_folder)
    tokenizer.save_pretrained(folder / "tokenizer")
    shards = [_shard(folder, f"{number:05}", tokens_per_shard, highest) for number in range(num_shards)]
    header = Header(dtype="uint16", end_id=END, tokenizer=tokenizer_digest(tokenizer), sources=(), shards=tuple(shards))
    (folder / FILE).write_text(header.text())


def _shard(folder: Path, name: str, num_tokens: int, highest: int) -> Shard:
    rng = np.random.default_rng(int(name))
    files = {kind: folder / f"{name}.{kind}" for kind in (TOKENS, ENDS, LINES)}
    with (
        ShardFileWriter(files[TOKENS], DTYPES["uint16"]) as tokens,
        ShardFileWriter(files[ENDS], WORD) as ends,
        ShardFileWriter(files[LINES], WORD) as lines,
    ):
        for _ in range(0, num_tokens, 1000 * PER_DOCUMENT):
            ids = rng.integers(FIRST, highest + 1, (1000, PER_DOCUMENT), dtype=np.uint16)
            ids[:, -1] = END
            tokens.append(ids)
        num_documents = num_tokens // PER_DOCUMENT
        ends.append(np.arange(1, num_documents + 1, dtype=np.uint64) * np.uint64(PER_DOCUMENT))
        records = {TOKENS: tokens.record(), ENDS: ends.record(), LINES: lines.record()}
    assert records[TOKENS].num_bytes == 2 * num_tokens
    return Shard(
        name=name, num_tokens=num_tokens, num_documents=num_documents, max_id=highest, line_bound=1 << 64, files=records
    )


def memory() -> dict[str, int]:
    """Bytes that are this process's own (RssAnon of proc(5)), and of files that are mapped (RssFile)."""
    lines = dict(line.split(":") for line in Path("/proc/self/status").read_text().splitlines())
    return {name: int(lines[name].split()[0]) * 1024 for name in ("RssAnon", "RssFile")}


def clocks() -> dict[str, float]:
    """Seconds by the clock, and those that processors worked for this process."""
    return {"seconds": time.monotonic(), "processor_seconds": time.process_time()}


class FirstStep:
    """A listener that remembers when it heard of the first step, and the memory then."""

    def __init__(self) -> None:
        self.at: dict[str, float] = {}

    def report(self, step: int, metrics: Mapping[str, float]) -> None:
        self.at = self.at or {**clocks(), **memory()}

    def close(self) -> None:
        pass


@dataclass(frozen=True, kw_only=True)
class Timed(PretrainText):
    """Remembers when everything was read and the model is to be made."""

    read: dict[str, float]

    def _ready(self, *arguments: Any, **options: Any) -> Any:
        found = super()._ready(*arguments, **options)
        self.read.update(clocks())
        return found


def started(folder: Path, tokens: Path) -> dict[str, float]:
    """A tiny model's training on the tokens."""
    settings = PretrainSettings(
        text=(str(tokens),), hidden_size=64, num_attention_heads=2, max_length=256, max_steps=2, learning_rate=1e-4
    )
    heard = FirstStep()
    listeners = jobs.listeners

    def with_mine(*arguments: Any, **options: Any) -> Sequence[Any]:
        return [*listeners(*arguments, **options), heard]

    jobs.listeners = with_mine
    begun: dict[str, float] = {**clocks(), **memory()}
    training = Timed(settings=settings, work=folder / "work", output=folder / "base", read={})
    training.execute(Processes(num=1, device="cpu"), resume=False)
    jobs.listeners = listeners
    found = {name: heard.at[name] - value for name, value in begun.items()}
    return found | {f"reading_{name}": at - begun[name] for name, at in training.read.items()}


def main(folder: Path, small: Path, tokens: Path, figures: Path) -> None:
    before = started(folder / "small", small)
    figures.write_text(json.dumps({"small": before, "large": started(folder / "large", tokens)}))


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
