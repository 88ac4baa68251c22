"""Rows of prompts and answers as tokens, with those that are to be learned."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from graft.adapters.text.problems import BadLine
from graft.adapters.text.spelling import Spelling, Unspellable
from graft.training.batch.packing import Encoded
from graft.training.batch.rows import Completion, Conversation, Row
from graft.training.batch.turns import Turns
from graft.training.errors import ConfigurationError


class RowEncoder:
    """Rows as serving will meet them: what it sends before an answer, then the answer and a token that ends it.

    Args:
        stop_ids: tokens that generation stops at beside the tokenizer's own end token.
        assistant_only: false supervises the prompt, too.

    Raises:
        ConfigurationError: generation stops at no token.
    """

    def __init__(
        self, tokenizer: PreTrainedTokenizerFast, *, stop_ids: Iterable[int] = (), assistant_only: bool = True
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
        self._turns = Turns(tokenizer, self._spelling)
        self._learns_prompts = not assistant_only

    def examples(self, row: Row) -> list[Encoded]:
        """One example for each learned answer; those that go on where the one before ends are one together.

        Raises:
            BadLine: the chat template refuses the conversation, or a text cannot be spelled.
            ConfigurationError: there is no chat template for a conversation.
        """
        try:
            return self._completion(row) if isinstance(row, Completion) else self._conversation(row)
        except Unspellable as problem:
            raise BadLine(f"{problem}.") from None

    def _completion(self, row: Completion) -> list[Encoded]:
        """An end that is written after the completion is the one that is learned; of several, the first."""
        answer, end_id = row.completion, self._end_id
        while name := next((name for name in self._end_names if answer.endswith(name)), None):
            answer, end_id = answer.removesuffix(name), self._end_names[name]
        prompt_ids, answer_ids = self._spelling.answered(row.prompt, answer)
        return [self._example(prompt_ids, [*answer_ids, end_id])]

    def _conversation(self, row: Conversation) -> list[Encoded]:
        messages = [{"role": turn.role, "content": turn.content} for turn in row.turns]
        examples: list[Encoded] = []
        for index, turn in enumerate(row.turns):
            if not turn.is_learned:
                continue
            prompt_ids, answer_ids = self._answer(messages[:index], turn.content)
            example = self._example(prompt_ids, answer_ids)
            if examples and _goes_on(examples[-1].input_ids, prompt_ids):
                before = examples.pop().supervised
                example = Encoded(input_ids=example.input_ids, supervised=[*before, *example.supervised[len(before) :]])
            examples.append(example)
        return examples

    def _answer(self, before: Sequence[dict[str, str]], answer: str) -> tuple[list[int], list[int]]:
        """Ids of what a server sends before an answer, and of the answer to the first token that ends it."""
        prompt = self._turns.prompt(before)
        learned = self._turns.answered(before, prompt, answer)
        prompt_ids, ids = self._spelling.seamed(prompt, learned)
        end = next((at for at, id in enumerate(ids) if id in self._stop_ids), None)
        if end is not None:
            return prompt_ids, ids[: end + 1]
        # The template ends no answer; what it puts between turns is no answer's.
        said = learned.removesuffix(self._turns.around(before)[1])
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
