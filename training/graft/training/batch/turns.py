"""What a chat template makes of a conversation: what stands before each answer, and what an answer ends in."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from jinja2 import TemplateError, TemplateSyntaxError
from transformers import PreTrainedTokenizerFast

from graft.adapters.text.problems import BadLine
from graft.adapters.text.spelling import Spelling
from graft.training.errors import ConfigurationError

Message = Mapping[str, str]
_PROBE = "\uf8ffanswer\uf8ff"
"""An answer that a template has no reason to change, so that what it writes around one can be told."""
_OPENED_TAG = re.compile(r"(<[^<>/|]+>)(\s*)\Z")


class Turns:
    """A base's chat template. Texts are marked (see ``Spelling``): what messages say is never a control token."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast, spelling: Spelling) -> None:
        self._tokenizer, self._spelling = tokenizer, spelling

    def prompt(self, before: Sequence[Message]) -> str:
        """What a server puts before an answer. A conversation that begins with one has what the template writes there.

        Raises:
            BadLine: the template refuses the messages.
            ConfigurationError: there is no template, or it is broken.
        """
        return self._render(before, opens_answer=True) if before else self.around(before)[0]

    def answered(self, before: Sequence[Message], prompt: str, answer: str) -> str:
        """What is to be learned after the prompt: the answer as it was given, in what the template writes around one.

        Some templates write a finished turn otherwise than they open one: without its reasoning, or without a tag that
        the prompt opens. Then it stands after what the prompt opens. And many trim: what is left of an earlier turn's
        blanks is the template's matter, but an answer's own are a model's to write.
        """
        whole = self._render([*before, {"role": "assistant", "content": answer}])
        given: str = self._spelling.marked(answer)
        head, after = self.around(before)
        if head.startswith(prompt) and _without_blanks(whole) == _without_blanks(head + given + after):
            return head[len(prompt) :] + given + after
        if whole.startswith(prompt) and given in whole[len(prompt) :]:
            return whole[len(prompt) :]
        return _without_opened(prompt, given) + after

    def around(self, before: Sequence[Message]) -> tuple[str, str]:
        """What the template writes before an answer that is finished, and after it."""
        whole = self._render([*before, {"role": "assistant", "content": _PROBE}])
        head, found, after = whole.rpartition(_PROBE)
        return (head, after) if found else (whole, "")

    def _render(self, messages: Sequence[Message], *, opens_answer: bool = False) -> str:
        if self._tokenizer.chat_template is None:
            raise ConfigurationError(
                f"the base's tokenizer ({self._tokenizer.name_or_path}) has no chat template, which says how turns are "
                "written: add chat_template.jinja to its folder."
            )
        marked: list[dict[str, Any]] = self._spelling.marked(messages)
        try:
            text: str = self._tokenizer.apply_chat_template(marked, tokenize=False, add_generation_prompt=opens_answer)
        except TemplateSyntaxError as error:
            raise ConfigurationError(
                f"the chat template of {self._tokenizer.name_or_path} is broken in line {error.lineno}: {error.message}"
            ) from None
        except (TemplateError, ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            told = self._spelling.unmarked(" ".join(str(error).split()))
            raise BadLine(f"the base's chat template refuses the conversation: {told[:300]}") from None
        return text


def _without_blanks(text: str) -> str:
    return "".join(text.split())


def _without_opened(prompt: str, answer: str) -> str:
    """An answer that begins with the tag in which the prompt ends, without it."""
    opened = _OPENED_TAG.search(prompt)
    if opened is None or not answer.lstrip().startswith(opened[1]):
        return answer
    return answer.lstrip().removeprefix(opened[1]).removeprefix(opened[2])
