"""Text made into a folder of tokens: piece by piece, in several processes, in bounded memory.

A piece that is finished leaves a record, and a command that was ended goes on behind those. The folder appears under
its name when all is there.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from transformers import PreTrainedTokenizerBase

from graft.adapters.digest import PREFIX, sha256_of_file
from graft.training.corpus.shards.folder import TOKENIZER, TokenFolder
from graft.training.corpus.shards.header import FILE, Header, Shard
from graft.training.corpus.shards.pieces import PIECE_BYTES, Piece, Source, pieces, problems_of
from graft.training.corpus.shards.shard_writer import dtype_of, recorded
from graft.training.corpus.shards.spelled import tokenizer_digest
from graft.training.corpus.shards.workers import Task, each
from graft.training.errors import DataError
from graft.training.runtime.disk import AGAIN, remove, replace_text, written

Report = Callable[[int], object]
"""Hears how many bytes of text are done, in all."""


@dataclass(frozen=True, kw_only=True)
class Tokenizing:
    """Files of text, and how they become tokens."""

    paths: Sequence[Path]
    tokenizer: PreTrainedTokenizerBase
    end_id: int
    output: Path
    digests: Sequence[str] | None = None
    """Of the files, where they are known."""
    num_workers: int = 1
    piece_bytes: int = PIECE_BYTES

    def make(self, report: Report = lambda num_bytes: None) -> TokenFolder:
        """The finished folder.

        Raises:
            DataError: what is wrong with each of the files.
            NotWritten: the disk refused it.
        """
        sources = [Source.of(path) for path in self.paths]
        draft = self.output.with_name(f".{self.output.name}.part")
        remedy = f"{AGAIN}: what is finished is kept"
        with written(self.output, remedy=remedy, what_stays="nothing was there before"), _held(draft):
            try:
                shards = self._shards(draft, pieces(sources, self.piece_bytes), report)
                self._check_unchanged(sources)
                self._finish(draft, sources, shards)
            except BaseException:
                if not any(draft.glob("*.json")):
                    remove(draft)
                raise
        return TokenFolder.open(self.output)

    def _shards(self, draft: Path, parts: Sequence[Piece], report: Report) -> list[Shard]:
        """Of every piece that has documents."""
        tokenizer = tokenizer_digest(self.tokenizer)
        keys = [{"tokenizer": tokenizer, "end": self.end_id, "text": [one.key for one in piece]} for piece in parts]
        stems = [draft / f"{number:05}" for number in range(len(parts))]
        tasks = [Task(stem=stem, piece=piece, key=key) for stem, piece, key in zip(stems, parts, keys, strict=True)]
        found = [recorded(one.stem, one.piece, one.key) for one in tasks]
        missing = [task for task, one in zip(tasks, found, strict=True) if one is None]
        done = sum(one.num_bytes for task, there in zip(tasks, found, strict=True) if there for one in task.piece)
        made = iter(each(missing, self.tokenizer, self.end_id, self.num_workers, lambda num: report(done + num)))
        whole = [next(made) if one is None else one for one in found]
        if problems := problems_of([reading for one in whole for reading in one.readings]):
            raise DataError("\n".join(problems))
        shards = [one.shard for one in whole if one.shard.num_documents]
        if not shards:
            remove(draft)
            raise DataError(
                f"no documents in {', '.join(map(str, self.paths)) or 'no file'}: name text that has some with --text."
            )
        return shards

    def _check_unchanged(self, sources: Sequence[Source]) -> None:
        changed = [str(one.path) for one in sources if Source.of(one.path) != one]
        if changed:
            raise DataError(f"{', '.join(changed)} changed while it was read: {AGAIN} when it is finished.")

    def _finish(self, draft: Path, sources: Sequence[Source], shards: Sequence[Shard]) -> None:
        digests = self.digests or [PREFIX + sha256_of_file(source.path) for source in sources]
        header = Header(
            dtype=dtype_of(self.tokenizer, self.end_id),
            end_id=self.end_id,
            tokenizer=tokenizer_digest(self.tokenizer),
            sources=tuple((source.path.name, digest) for source, digest in zip(sources, digests, strict=True)),
            shards=tuple(shards),
        )
        self.tokenizer.save_pretrained(draft / TOKENIZER)
        replace_text(draft / FILE, header.text())
        kept = {f"{shard.name}.{kind}" for shard in shards for kind in shard.files} | {FILE, TOKENIZER}
        for one in draft.iterdir():
            if one.name not in kept:
                remove(one)
        draft.rename(self.output)


@contextlib.contextmanager
def _held(draft: Path) -> Iterator[None]:
    """Nobody else makes this folder meanwhile. Raises ``DataError`` where somebody does."""
    draft.mkdir(parents=True, exist_ok=True)
    handle = os.open(draft, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DataError(f"another process tokenises into {draft}: wait for it, or choose another folder.") from None
        yield
    finally:
        os.close(handle)
