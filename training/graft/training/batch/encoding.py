"""Rows of prompts and answers as tokens, with those that are to be learned."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from graft.adapters.text.problems import BadLine
from graft.adapters.text.spelling import Spelling, Unspellable
from graft.training.batch.chat.template import Template
from graft.training.batch.chat.turns import Turns
from graft.training.batch.packing import Encoded
from graft.training.batch.rows.row import Completion, Conversation, Document, Instruction, Row, Turn
from graft.training.errors import ConfigurationError

_ALPACA = (
    "Below is an instruction that describes a task{paired}. Write a response that appropriately completes the request."
    "\n\n### Instruction:\n{instruction}{input}\n\n### Response:"
)
_ALPACA_PAIRED, _ALPACA_INPUT = ", paired with an input that provides further context", "\n\n### Input:\n{}"
"""Of stanford_alpaca's train.py (Taori et al. 2023)."""


class RowEncoder:
    """Rows as serving will meet them: what it sends before an answer, then the answer and a token that ends it.

    Args:
        stop_ids: tokens that generation stops at beside the tokenizer's own end token.
        assistant_only: false supervises the prompt, too.
        last_only: of a conversation only the last answer is learned.

    Raises:
        ConfigurationError: generation stops at no token.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerFast,
        *,
        stop_ids: Iterable[int] = (),
        assistant_only: bool = True,
        last_only: bool = False,
    ) -> None:
        ends = end_ids(tokenizer, stop_ids)
        if not ends:
            raise ConfigurationError(
                f"the base's tokenizer ({tokenizer.name_or_path}) has no end token, so no answer could learn to end: "
                "set its eos_token."
            )
        self._end_id, self._stop_ids = ends[0], frozenset(ends)
        added = tokenizer.added_tokens_decoder
        self._end_names = {added[id].content: id for id in ends if id in added}
        self._spelling = Spelling(tokenizer, ends)
        self._template = Template(tokenizer, self._spelling)
        self._learns_prompts, self._last_only = not assistant_only, last_only

    def examples(self, row: Row) -> list[Encoded]:
        """One example for each learned answer; those that go on where the one before ends are one together.

        Raises:
            BadLine: the chat template refuses the conversation, or a text cannot be spelled.
            ConfigurationError: there is no chat template for a conversation.
        """
        try:
            if isinstance(row, Document):
                return [self._document(row)]
            if isinstance(row, Instruction):
                row = self._instructed(row)
            return self._completion(row) if isinstance(row, Completion) else self._conversation(row)
        except Unspellable as problem:
            raise BadLine(f"{problem}.") from None

    def _document(self, row: Document) -> Encoded:
        """All of it is learned, and that it ends. Its author writes the whole of it, as of a raw prompt."""
        text, end_id = self._without_end(row.text)
        ids = [*self._spelling.prompt(text), end_id]
        return Encoded(input_ids=ids, supervised=[True] * len(ids))

    def _instructed(self, row: Instruction) -> Conversation | Completion:
        """One turn of the user; by Alpaca's own prompt where the base has no chat template."""
        if self._template.exists:
            asked = f"{row.instruction}\n{row.input}" if row.input.strip() else row.instruction
            system = [Turn(role="system", content=row.system, is_learned=False)] if row.system.strip() else []
            said = Turn(role="assistant", content=row.output, is_learned=True)
            return Conversation(turns=(*system, Turn(role="user", content=asked, is_learned=False), said))
        if row.system.strip():
            raise BadLine("it has a system text, which the prompt of Alpaca has no place for; leave it out.")
        paired, given = (_ALPACA_PAIRED, _ALPACA_INPUT.format(row.input)) if row.input.strip() else ("", "")
        prompt = _ALPACA.format(paired=paired, instruction=row.instruction, input=given)
        return Completion(prompt=prompt, completion=row.output)

    def _completion(self, row: Completion) -> list[Encoded]:
        answer, end_id = self._without_end(row.completion)
        prompt_ids, answer_ids = self._spelling.answered(row.prompt, answer)
        return [self._example(prompt_ids, [*answer_ids, end_id])]

    def _without_end(self, text: str) -> tuple[str, int]:
        """An end that is written after a text is the one that is learned; of several, the first."""
        end_id = self._end_id
        while name := next((name for name in self._end_names if text.endswith(name)), None):
            text, end_id = text.removesuffix(name), self._end_names[name]
        return text, end_id

    def _conversation(self, row: Conversation) -> list[Encoded]:
        self._template.check_variables(list(row.variables))
        turns = Turns(template=self._template, row=row)
        learned = [number for number, turn in enumerate(row.turns) if turn.is_learned]
        examples: list[Encoded] = []
        for number in learned[-1:] if self._last_only else learned:
            prompt_ids, answer_ids = self._answer(turns, number, is_last=number == learned[-1])
            example = self._example(prompt_ids, answer_ids)
            if examples and _goes_on(examples[-1].input_ids, prompt_ids):
                before = examples.pop().supervised
                example = Encoded(input_ids=example.input_ids, supervised=[*before, *example.supervised[len(before) :]])
            examples.append(example)
        return examples

    def _answer(self, turns: Turns, number: int, *, is_last: bool) -> tuple[list[int], list[int]]:
        """Ids of what a server sends before an answer, and of the answer to the first token that ends it."""
        prompt = turns.prompt(number)
        if is_last:
            turns.check_shown(number, prompt)
        learned = turns.answered(number, prompt)
        prompt_ids, ids = self._spelling.seamed(prompt, learned)
        end = next((at for at, id in enumerate(ids) if id in self._stop_ids), None)
        if end is not None:
            return prompt_ids, ids[: end + 1]
        # The template ends no answer; what it puts between turns is no answer's.
        said = learned.removesuffix(turns.around(number)[1])
        return prompt_ids, [*self._spelling.seamed(prompt, said)[1], self._end_id]

    def _example(self, prompt_ids: Sequence[int], answer_ids: Sequence[int]) -> Encoded:
        if len(prompt_ids) + len(answer_ids) < 2:
            raise BadLine("it has one token in all, and nothing before it to learn it from; write a prompt.")
        return Encoded(
            input_ids=[*prompt_ids, *answer_ids],
            supervised=[self._learns_prompts] * len(prompt_ids) + [True] * len(answer_ids),
        )


def end_ids(tokenizer: PreTrainedTokenizerBase, stop_ids: Iterable[int]) -> tuple[int, ...]:
    """What ends an answer: the tokenizer's own end token first, then those that generation stops at beside it."""
    own = tokenizer.eos_token_id
    return tuple(dict.fromkeys([*([] if own is None else [own]), *stop_ids]))


def _goes_on(before: Sequence[int], prompt_ids: Sequence[int]) -> bool:
    return list(prompt_ids[: len(before)]) == list(before)
