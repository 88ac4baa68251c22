"""Learning answers: next-token prediction on the supervised part of rows only."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random

from transformers import PreTrainedModel, PreTrainedTokenizerFast

from graft.training.corpus.packing import Batch, Encoded, batch_of_rows
from graft.training.corpus.rows import Completion, Conversation, Row
from graft.training.errors import DataError
from graft.training.objective.causal import next_token_loss
from graft.training.objective.objective import Loss

LENGTH_STEP = 32
"""Rows are padded to a multiple of this. The CPU's matrix library keeps compiled code and buffers for every shape that
it has seen: with lengths as they come, 60 steps took 1.3 GB, with these 0.7 GB, and less time."""


def encode_row(row: Row, tokenizer: PreTrainedTokenizerFast, *, assistant_only: bool = True) -> Encoded:
    """Tokenises a row as serving will: the prompt with whatever the tokenizer adds on its own, then the answer and
    its end token.

    ``assistant_only`` false supervises the prompt too.
    """
    if isinstance(row, Completion):
        prompt: list[int] = tokenizer(row.prompt)["input_ids"]
        answer: list[int] = tokenizer(row.completion, add_special_tokens=False)["input_ids"] + [tokenizer.eos_token_id]
        return Encoded(input_ids=prompt + answer, supervised=[not assistant_only] * len(prompt) + [True] * len(answer))
    return _encode_conversation(row, tokenizer, assistant_only)


def _encode_conversation(row: Conversation, tokenizer: PreTrainedTokenizerFast, assistant_only: bool) -> Encoded:
    """Cuts the rendered template where each learned answer begins and ends; the end token belongs to the answer.

    What the template writes after the last learned answer is left out: nothing learns from it.
    """
    messages = [{"role": turn.role, "content": turn.content} for turn in row.turns]
    ids: list[int] = []
    supervised: list[bool] = []
    done = ""
    for index, turn in enumerate(row.turns):
        if not turn.is_learned:
            continue
        before = _render(tokenizer, messages[:index], add_generation_prompt=True)
        after = _render(tokenizer, messages[: index + 1]).rstrip()
        if not (before.startswith(done) and after.startswith(before)):
            raise DataError(
                "the chat template rewrites earlier turns, so answers cannot be located in it; "
                "use prompt and completion rows."
            )
        for text, is_learned in ((before[len(done) :], not assistant_only), (after[len(before) :], True)):
            piece = tokenizer(text, add_special_tokens=False)["input_ids"]
            ids += piece
            supervised += [is_learned] * len(piece)
        done = after
    return Encoded(input_ids=ids, supervised=supervised)


def _render(
    tokenizer: PreTrainedTokenizerFast, messages: Sequence[Mapping[str, str]], *, add_generation_prompt: bool = False
) -> str:
    text: str = tokenizer.apply_chat_template(
        list(messages), tokenize=False, add_generation_prompt=add_generation_prompt
    )
    return text


@dataclass(frozen=True, kw_only=True)
class SupervisedObjective:
    """Rows in a new random order each epoch. The mean is taken over the supervised tokens of the whole step, not batch
    by batch.
    """

    rows: Sequence[Encoded]
    rows_per_batch: int
    batches_per_step: int
    """Gradient accumulation."""
    packing: bool
    """Several rows in one line of the batch. It changes the padding, not the loss: attention stays within each row."""
    pad_id: int
    seed: int

    @property
    def steps_per_epoch(self) -> int:
        return -(-len(self.rows) // (self.rows_per_batch * self.batches_per_step))

    def batches(self, step: int) -> list[Batch]:
        epoch, position = divmod(step, self.steps_per_epoch)
        order = list(range(len(self.rows)))
        Random(f"{self.seed}/{epoch}").shuffle(order)
        per_step = self.rows_per_batch * self.batches_per_step
        chosen = [self.rows[index] for index in order[position * per_step : (position + 1) * per_step]]
        starts = range(0, len(chosen), self.rows_per_batch)
        return [self._batch(chosen[start : start + self.rows_per_batch]) for start in starts]

    def loss(self, model: PreTrainedModel, batch: Batch) -> Loss:
        return next_token_loss(model, batch)

    def _batch(self, rows: Sequence[Encoded]) -> Batch:
        longest = max(len(row.input_ids) for row in rows)
        length = -(-longest // LENGTH_STEP) * LENGTH_STEP
        lines = _first_fit(rows, length) if self.packing else [[row] for row in rows]
        return batch_of_rows(lines, length=length, pad_id=self.pad_id)


def _first_fit(rows: Sequence[Encoded], length: int) -> list[list[Encoded]]:
    """First-fit decreasing: each row, longest first, goes into the first line that has room."""
    lines: list[list[Encoded]] = []
    room: list[int] = []
    for row in sorted(rows, key=lambda each: -len(each.input_ids)):
        size = len(row.input_ids)
        fitting = next((index for index, left in enumerate(room) if left >= size), None)
        if fitting is None:
            lines.append([row])
            room.append(length - size)
        else:
            lines[fitting].append(row)
            room[fitting] -= size
    return lines
