"""Rows of prompts and answers as tokens, with those that are to be learned."""

from collections.abc import Mapping, Sequence

from transformers import PreTrainedTokenizerFast

from graft.training.corpus.packing import Encoded
from graft.training.corpus.rows import Completion, Conversation, Row
from graft.training.errors import ConfigurationError, DataError


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
    if tokenizer.chat_template is None:
        raise ConfigurationError(
            f"the base's tokenizer ({tokenizer.name_or_path}) has no chat template, which says how turns are written: "
            "add chat_template.jinja to its folder."
        )
    text: str = tokenizer.apply_chat_template(
        list(messages), tokenize=False, add_generation_prompt=add_generation_prompt
    )
    return text
