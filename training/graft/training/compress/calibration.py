"""Text that steers what becomes of a base's weights."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from graft.adapters.digest import digest_of_bytes
from graft.training.corpus.texts import read_documents
from graft.training.errors import DataError

NUM_TOKENS = 32_768
_LENGTH = 512
_ROWS_PER_BATCH = 8


@dataclass(frozen=True, kw_only=True)
class CalibrationText:
    """Documents, and a digest of their source."""

    documents: tuple[str, ...]
    digest: str

    @classmethod
    def from_file(cls, path: Path) -> CalibrationText:
        """The documents of a file of text, as pretraining reads them.

        Raises:
            DataError: another kind of file, one that cannot be read, a line without ``text``, or nothing to read.
        """
        documents = tuple(read_documents(path))
        return cls(documents=documents, digest=digest_of_bytes(path.read_bytes()))

    @classmethod
    def of(cls, texts: Iterable[str]) -> CalibrationText:
        """Documents that were made."""
        documents = tuple(texts)
        return cls(documents=documents, digest=digest_of_bytes("\0".join(documents).encode()))

    def batches(self, tokenizer: PreTrainedTokenizerFast, *, num_tokens: int, context: int) -> list[Tensor]:
        """Batches (rows, length) of the documents one after another, each followed by its end token.

        Raises:
            DataError: the text is shorter than one row.
        """
        length = min(context, _LENGTH)
        ids: list[int] = []
        for document in self.documents:
            ids += [*tokenizer(document, verbose=False)["input_ids"], tokenizer.eos_token_id]
            if len(ids) >= num_tokens:
                break
        rows = min(len(ids), max(num_tokens, length)) // length
        if not rows:
            raise DataError(f"the calibration text has {len(ids)} tokens; at least {length} are needed.")
        return list(torch.tensor(ids[: rows * length]).view(rows, length).split(_ROWS_PER_BATCH))
