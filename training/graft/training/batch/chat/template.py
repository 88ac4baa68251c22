"""A base's chat template, rendered as the server renders it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

from jinja2 import TemplateError, TemplateSyntaxError
from transformers import PreTrainedTokenizerFast

from graft.adapters.chat.shown import TemplateReads, as_rendered
from graft.adapters.chat.template import reads_of, variables_of
from graft.adapters.text.problems import BadLine
from graft.adapters.text.spelling import Spelling
from graft.training.errors import ConfigurationError

Message = Mapping[str, Any]


class Template:
    """Texts are marked (see ``Spelling``): what messages say is never a control token."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast, spelling: Spelling) -> None:
        self._tokenizer, self._spelling = tokenizer, spelling

    @property
    def exists(self) -> bool:
        return self._tokenizer.chat_template is not None

    @cached_property
    def text(self) -> str:
        """Of several that for chats with tools, empty where there is none."""
        template = self._tokenizer.chat_template
        if isinstance(template, Mapping):
            template = template.get("tool_use") or template.get("default")
        return template or ""

    @cached_property
    def _reads(self) -> TemplateReads:
        return reads_of(self.text)

    @cached_property
    def _variables(self) -> frozenset[str]:
        return variables_of(self.text)

    def check_variables(self, names: Sequence[str]) -> None:
        """Raises ``BadLine`` for one that the template does not read."""
        if unknown := sorted(set(names) - self._variables):
            known = f"it reads {', '.join(sorted(self._variables))}" if self._variables else "it reads none"
            raise BadLine(
                f"chat_template_kwargs has {unknown[0]!r}, which the base's chat template does not read; {known}."
            )

    def written(self, messages: Sequence[Message], tools: Sequence[Message] = ()) -> list[dict[str, Any]]:
        """The turns that the template is given: calls and tools as text where it has no words for them."""
        return as_rendered(messages, tools, self._reads)[0]

    def render(
        self, messages: Sequence[Message], tools: Sequence[Message], variables: Message, *, opens_answer: bool = False
    ) -> str:
        """Raises ``BadLine`` where the template refuses the messages, ``ConfigurationError`` where there is none, or a
        broken one.
        """
        if not self.exists:
            raise ConfigurationError(
                f"the base's tokenizer ({self._tokenizer.name_or_path}) has no chat template, which says how turns are "
                "written: add chat_template.jinja to its folder."
            )
        turns, told = as_rendered(messages, tools, self._reads)
        marked, values = self._spelling.marked(turns), self._spelling.marked({**told, **variables})
        try:
            text: str = self._tokenizer.apply_chat_template(
                marked, tokenize=False, add_generation_prompt=opens_answer, **values
            )
        except TemplateSyntaxError as error:
            raise ConfigurationError(
                f"the chat template of {self._tokenizer.name_or_path} is broken in line {error.lineno}: {error.message}"
            ) from None
        except (TemplateError, ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            told_by_it = self._spelling.unmarked(" ".join(str(error).split()))
            raise BadLine(f"the base's chat template refuses the conversation: {told_by_it[:300]}") from None
        return text

    def marked(self, text: str) -> str:
        """A text of a message as it stands in what is rendered."""
        found: str = self._spelling.marked(text)
        return found
