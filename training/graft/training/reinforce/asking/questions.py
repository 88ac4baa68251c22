"""What a policy is asked: the rows of a file, as the base reads them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerFast

from graft.adapters.text.problems import BadLine
from graft.training.batch.order import shuffled
from graft.training.batch.rows.reading import read_values
from graft.training.reinforce.asking.sampler import Prompt

MESSAGES, PROMPT = "messages", "prompt"


@dataclass(frozen=True, kw_only=True)
class Questions:
    """Rows of JSON: ``messages`` of a chat, or a ``prompt`` that is text; graders read the whole row as their item."""

    items: Sequence[Mapping[str, Any]]
    prompts: Sequence[Prompt]

    @classmethod
    def read(cls, path: Path, tokenizer: PreTrainedTokenizerFast, *, max_tokens: int) -> Questions:
        """Raises ``DataError`` with every row that is no question, or has more than so many tokens."""
        found = read_values(path, lambda value: (value, _ids(value, tokenizer, max_tokens)))
        return cls(
            items=[item for _, (item, _) in found],
            prompts=[Prompt(row=row, ids=ids) for row, (_, (_, ids)) in enumerate(found)],
        )

    @classmethod
    def of(cls, items: Sequence[Mapping[str, Any]], tokenizer: PreTrainedTokenizerFast) -> Questions:
        """Rows that were read already. Raises ``BadLine``."""
        prompts = [Prompt(row=row, ids=ids_of(item, tokenizer)) for row, item in enumerate(items)]
        return cls(items=items, prompts=prompts)

    def drawn(self, draw: int, *, num: int, seed: int) -> list[Prompt]:
        """The prompts of one draw: a function of its number and the seed. All rows come in one order, and then all in
        another.
        """
        found = []
        for at in range(draw * num, (draw + 1) * num):
            epoch, place = divmod(at, len(self.prompts))
            found.append(self.prompts[shuffled(len(self.prompts), f"{seed}/{epoch}")[place]])
        return found


def ids_of(value: Any, tokenizer: PreTrainedTokenizerFast) -> list[int]:
    """Of a row. Raises ``BadLine`` where it is no question."""
    if not isinstance(value, dict):
        raise BadLine("it is no object; write one with messages or prompt, and what graders want to know.")
    messages, prompt = value.get(MESSAGES), value.get(PROMPT)
    if isinstance(messages, list) and messages:
        return _of_chat(messages, tokenizer)
    if isinstance(prompt, str) and prompt:
        return list(tokenizer(prompt).input_ids)
    raise BadLine(f"it has no {MESSAGES} and no {PROMPT}; write one of them.")


def _ids(value: Any, tokenizer: PreTrainedTokenizerFast, max_tokens: int) -> list[int]:
    ids = ids_of(value, tokenizer)
    if len(ids) > max_tokens:
        raise BadLine(
            f"its prompt has {len(ids)} tokens; beside the answer there is room for {max_tokens}. Shorten it, or lower "
            "max_completion_length."
        )
    return ids


def _of_chat(messages: Sequence[Any], tokenizer: PreTrainedTokenizerFast) -> list[int]:
    for number, one in enumerate(messages):
        if not isinstance(one, dict) or not isinstance(one.get("role"), str) or not isinstance(one.get("content"), str):
            raise BadLine(f"messages[{number}] is no turn with a role and a content that is text.")
    if messages[-1]["role"] == "assistant":
        raise BadLine("its last turn is the assistant's, whose answer is to be sampled; end with the user's.")
    if tokenizer.chat_template is None:
        raise BadLine("it is a chat, and the base has no chat template; write a prompt.")
    try:
        text = tokenizer.apply_chat_template(list(messages), tokenize=False, add_generation_prompt=True)
    except Exception as error:  # whatever the template raises, in Jinja's own kinds
        raise BadLine(f"the base's chat template refuses it: {error}.") from None
    return list(tokenizer(text, add_special_tokens=False).input_ids)
