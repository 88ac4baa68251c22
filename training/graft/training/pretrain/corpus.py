"""What a pretraining learns from: files of text, or folders of tokens that were made of them beforehand."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm
from transformers import PreTrainedTokenizerBase

from graft.adapters.digest import PREFIX, digest_of_json
from graft.training.corpus.shards.folder import TokenFolder, is_tokens
from graft.training.corpus.shards.header import VERSION
from graft.training.corpus.shards.making import Tokenizing
from graft.training.corpus.shards.pieces import Reading, Slice, Source, problems_of
from graft.training.corpus.shards.spelled import tokenizer_digest
from graft.training.errors import ConfigurationError, DataError
from graft.training.job.lineage import data_digest
from graft.training.pretrain.sources import documents_of, end_id
from graft.training.runtime.disk import remove

FOLDER = "tokens"
"""In a training's work: what was made of its text."""


def corpus_of(paths: Sequence[str]) -> Corpus:
    """Raises ``ConfigurationError`` where nothing is named, or both kinds, and ``DataError`` for a folder that is not
    sound.
    """
    if not paths:
        raise ConfigurationError("no text to train on: name files with --text.")
    folders = [path for path in paths if is_tokens(path)]
    if not folders:
        return FilesOfText(paths=tuple(map(Path, paths)))
    if len(folders) < len(paths):
        file = next(path for path in paths if path not in folders)
        raise ConfigurationError(
            f"--text names the folder of tokens {folders[0]} and the file {file}: make tokens of the file, too (`graft "
            f"corpus tokenize --text {file} --tokenizer {folders[0]}/tokenizer`), or name one kind alone."
        )
    return FoldersOfTokens(folders=tuple(TokenFolder.open(Path(path)) for path in folders))


@dataclass(frozen=True, kw_only=True)
class FilesOfText:
    """Text that this training makes tokens of."""

    paths: Sequence[Path]

    def documents(self) -> list[str]:
        """All, in memory. Raises ``DataError`` with what is wrong with each file."""
        return documents_of(list(map(str, self.paths)))

    def each(self) -> Iterator[str]:
        """The documents one after the other. Raises ``DataError`` behind the last one, with all that is wrong."""
        readings = []
        for path in self.paths:
            readings.append(Reading(slice=Slice(source=Source.of(path))))
            yield from readings[-1].documents()
        if problems := problems_of(readings):
            raise DataError("\n".join(problems))

    def digests(self) -> list[str]:
        """Of each file's bytes. Raises ``DataError`` where one is missing."""
        for path in self.paths:
            Source.of(path)
        return [data_digest(path) for path in self.paths]

    def tokens(self, tokenizer: PreTrainedTokenizerBase, work: Path, digests: Sequence[str]) -> Path:
        """The folder in ``work`` that holds their tokens, made where it is not there yet. Raises ``DataError``."""
        key = digest_of_json([VERSION, tokenizer_digest(tokenizer), end_id(tokenizer), list(digests)])
        output = work / FOLDER / key.removeprefix(PREFIX)[:16]
        if output.exists():
            try:
                return TokenFolder.open(output).path
            except DataError:
                remove(output)  # it can be made again
        job = Tokenizing(
            paths=self.paths, tokenizer=tokenizer, end_id=end_id(tokenizer), output=output, digests=digests
        )
        return tokenized(job).path


@dataclass(frozen=True, kw_only=True)
class FoldersOfTokens:
    """Text that was made into tokens before, by one tokenizer."""

    folders: Sequence[TokenFolder]

    @property
    def tokenizer(self) -> Path:
        """The folder of the tokenizer that made them."""
        return self.folders[0].tokenizer

    def digests(self) -> list[str]:
        """Of each folder's data, as its header has it."""
        return [folder.header.digest for folder in self.folders]

    def check_tokenizer(self, tokenizer: PreTrainedTokenizerBase) -> None:
        """Raises ``DataError`` where a text was spelled by another."""
        digest, end = tokenizer_digest(tokenizer), end_id(tokenizer)
        for folder in self.folders:
            if folder.header.tokenizer != digest:
                raise DataError(
                    f"the tokens in {folder.path} were made by another tokenizer than the one of this training "
                    f"({tokenizer.name_or_path}): take theirs, {folder.tokenizer}, or make them again."
                )
            if folder.header.end_id != end:
                raise DataError(
                    f"documents in {folder.path} end in the token {folder.header.end_id}, and the tokenizer's end "
                    f"token is {end}: make the tokens again, or set the tokenizer's eos_token."
                )

    def check_ids(self, vocab_size: int) -> None:
        """Raises ``DataError`` for tokens that a model of so many has no embedding for."""
        for folder in self.folders:
            if folder.header.max_id >= vocab_size:
                raise DataError(
                    f"the tokens in {folder.path} go up to the id {folder.header.max_id}, and the model has embeddings "
                    f"for {vocab_size}: take the model or the tokenizer that they were made for."
                )


Corpus = FilesOfText | FoldersOfTokens
"""The training text."""


def tokenized(job: Tokenizing) -> TokenFolder:
    """With a bar, where somebody looks."""
    total = sum(Source.of(path).num_bytes for path in job.paths)
    with tqdm(
        total=total, unit="B", unit_scale=True, desc="tokenising", disable=None, leave=False, file=sys.stderr
    ) as bar:
        return job.make(lambda num_bytes: bar.update(max(0, num_bytes - int(bar.n))))


def forget(work: Path, *, but: Sequence[str]) -> None:
    """Removes what was made of a text in this work, but what bears one of these names."""
    folder = work / FOLDER
    for one in made_in(work):
        if one not in but:
            remove(folder / one)
    for empty in (folder, work):
        if empty.is_dir() and not any(empty.iterdir()):
            empty.rmdir()


def made_in(work: Path) -> list[str]:
    """Names of what was made of texts in this work."""
    folder = work / FOLDER
    return [one.name for one in folder.iterdir()] if folder.is_dir() else []
