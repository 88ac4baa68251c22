"""What a pretraining reads, as tokens: its rows, and what it is measured on, which may have been trained on in part."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from graft.training.batch.batch import Batch
from graft.training.batch.others import Others
from graft.training.batch.packing import PackedBatch
from graft.training.batch.text_rows import PackedText, TextRows
from graft.training.corpus.lines import Sketch, overlap
from graft.training.corpus.shards.stream import TokenStream
from graft.training.corpus.texts import encode, encode_whole, windows
from graft.training.errors import DataError
from graft.training.loop.held_out import HeldOut
from graft.training.objective.distillation import asked_of_a_teacher
from graft.training.pretrain.assembly import Assembly
from graft.training.pretrain.sources import end_id

_log = logging.getLogger(__name__)

TOLD_OVERLAP = 0.001
"""Of a validation text with the training text: more is worth a warning."""


@dataclass(frozen=True, kw_only=True)
class HeldOutText:
    """A text that is not trained on."""

    measure: HeldOut
    overlap: float | None
    """The part of it that stands in the training text, too; None where that is not known."""

    @classmethod
    def of(cls, assembly: Assembly, documents: Sequence[str], training: Sequence[Sketch]) -> HeldOutText:
        """``training`` are the lines of what is trained on. Raises ``DataError`` where the documents ask nothing."""
        measure, share = held_out(assembly, documents), overlap(training, documents)
        if share is not None and share > TOLD_OVERLAP:
            _log.warning(
                "%.1f %% of %s stands in the training text, too: what is measured on it flatters the model",
                100 * share,
                assembly.settings.validation,
            )
        return cls(measure=measure, overlap=share)


def rows(assembly: Assembly, documents: Sequence[str] | TokenStream, *, groups: int = 1) -> PackedText | TextRows:
    """Rows of the documents for ``groups`` data-parallel processes; a causal objective takes tokens, too. Raises
    ``DataError`` for too little text.
    """
    settings = assembly.settings
    options: dict[str, Any] = {
        "rows_per_batch": settings.per_device_train_batch_size,
        "batches_per_step": settings.gradient_accumulation_steps * groups,
        "seed": settings.seed,
        "warmup_steps": settings.batch_warmup_steps,
    }
    made = _rows(assembly, documents, options, what="the text", is_taught=settings.teacher is not None)
    _check_asked(assembly, made.in_order(settings.per_device_train_batch_size), "the text")
    return made


def held_out(assembly: Assembly, documents: Sequence[str]) -> HeldOut:
    """What to measure on documents that are not trained on. Raises ``DataError`` where they ask nothing."""
    what, options = "the validation text", {"rows_per_batch": 1, "batches_per_step": 1, "seed": 0}
    made = _rows(assembly, documents, options, what=what, is_taught=False)
    batches: list[PackedBatch | Batch] = list(made.in_order(assembly.settings.per_device_train_batch_size))
    _check_asked(assembly, batches, what)
    return HeldOut(objective=assembly.plain_objective(), batches=batches)


def _check_asked(assembly: Assembly, batches: Iterable[PackedBatch | Batch], what: str) -> None:
    """Raises ``DataError`` where a part of what is learned is never asked for."""
    never: set[str] | None = None
    objective = assembly.plain_objective()
    for batch in batches:
        silent = {name for name, num in objective.counts(batch).items() if not num}
        never = silent if never is None else never & silent
        if not never:
            return
    raise DataError(
        f"{what} never asks for {' and '.join(sorted(never or ()))}, which {assembly.objective_name} learns from: its "
        "documents are too short; make one document of several lines."
    )


def _rows(
    assembly: Assembly,
    documents: Sequence[str] | TokenStream,
    options: dict[str, Any],
    *,
    what: str,
    is_taught: bool,
) -> PackedText | TextRows:
    tokenizer, length = assembly.tokenizer, assembly.settings.max_length
    if assembly.objective_name == "causal":
        end, pad = end_id(tokenizer), tokenizer.pad_token_id
        whole = documents if isinstance(documents, TokenStream) else encode_whole(documents, tokenizer)
        return PackedText(whole, length=length, end_id=end, pad_id=end if pad is None else pad, **options)
    assert not isinstance(documents, TokenStream), "sentences are learned from, which tokens do not tell"
    objective: Any = assembly.plain_objective()
    collate = _asked_of_a_teacher(objective.collate) if is_taught else objective.collate
    room = length - 3  # for the special tokens of two segments
    pieces = [list(windows(document, room)) for document in encode(documents, tokenizer)]
    others = Others(pieces, what=what) if assembly.objective_name == "next_sentence" else None
    return TextRows(pieces, collate, others=others, **options)


def _asked_of_a_teacher(collate: Callable[..., Batch]) -> Callable[..., Batch]:
    return lambda *arguments: asked_of_a_teacher(collate(*arguments))
