"""The training text, read for an objective: causal ones have it as tokens, of which no process holds more than a step
reads; the others have its documents.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from transformers import PreTrainedTokenizerBase

from graft.adapters.text.spelling import Spelling
from graft.training.corpus.lines import Sketch, sketch_of
from graft.training.corpus.shards.folder import TokenFolder, stream_of
from graft.training.corpus.shards.stream import TokenStream
from graft.training.errors import ConfigurationError
from graft.training.launch.processes import Processes
from graft.training.model.loading import parts
from graft.training.pretrain.assembly import Assembly
from graft.training.pretrain.corpus import Corpus, FilesOfText, FoldersOfTokens
from graft.training.pretrain.sources import end_id

_BATCH_DOCUMENTS = 1 << 10


@dataclass(frozen=True, kw_only=True)
class Read:
    """What a training learns from."""

    text: Sequence[str] | TokenStream
    digests: Sequence[str]
    """Of each file or folder that was named."""
    folders: Sequence[TokenFolder]
    """Where the tokens lie."""

    def sketches(self) -> list[Sketch]:
        """Of the text's lines."""
        if isinstance(self.text, TokenStream):
            return [sketch for folder in self.folders for sketch in folder.sketches()]
        return [sketch_of(self.text)]


def read(corpus: Corpus, assembly: Assembly, processes: Processes, work: Path) -> Read:
    """The first process makes tokens of files, into ``work``. Raises ``DataError`` and ``ConfigurationError``."""
    tokenizer = assembly.tokenizer
    if isinstance(corpus, FilesOfText):
        digests = processes.by_first(corpus.digests)
        if assembly.objective_name != "causal":
            return Read(text=corpus.documents(), digests=digests, folders=())
        folders = [TokenFolder.open(processes.by_first(lambda: corpus.tokens(tokenizer, work, digests)))]
        return Read(text=stream_of(folders), digests=digests, folders=folders)
    return Read(text=_stream(corpus, assembly), digests=corpus.digests(), folders=corpus.folders)


def planned(corpus: Corpus, assembly: Assembly) -> Sequence[str] | TokenStream:
    """The same for one that looks at it only: nothing is written, and what would be is held in memory."""
    if not isinstance(corpus, FilesOfText):
        return _stream(corpus, assembly)
    if assembly.objective_name != "causal":
        return corpus.documents()
    return TokenStream.of(_spelled(corpus.each(), assembly.tokenizer), end_id(assembly.tokenizer))


def _stream(corpus: FoldersOfTokens, assembly: Assembly) -> TokenStream:
    if assembly.objective_name != "causal":
        raise ConfigurationError(
            f"{corpus.folders[0].path} holds tokens, and {assembly.objective_name!r} learns from sentences, which "
            "tokens do not tell: name the files of text, or take the objective 'causal'."
        )
    corpus.check_tokenizer(assembly.tokenizer)
    corpus.check_ids(parts(assembly.skeleton())[""].config.vocab_size)
    return stream_of(corpus.folders)


def _spelled(texts: Iterable[str], tokenizer: PreTrainedTokenizerBase) -> Iterator[list[int]]:
    spelling, rest = Spelling(tokenizer), iter(texts)
    while some := list(islice(rest, _BATCH_DOCUMENTS)):
        yield from spelling.texts(some)
