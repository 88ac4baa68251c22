"""What a chat template makes of one conversation: what stands before each answer, and what is learned after it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from graft.adapters.chat.opened import OPENED_TAG, behind_opened
from graft.adapters.text.problems import BadLine
from graft.training.batch.chat.template import Message, Template
from graft.training.batch.rows.row import Conversation, Turn

_PROBE = "\uf8ffanswer\uf8ff"
"""An answer that a template has no reason to change, so that what it writes around one can be told."""
_THOUGHT = "<think>\n{}\n</think>\n\n{}"
"""As models write that reason in their text (DeepSeek-R1: arXiv:2501.12948, table 1), and servers read it."""


@dataclass(frozen=True, kw_only=True)
class Turns:
    """A conversation under a base's template, as far as its answers."""

    template: Template
    row: Conversation

    def prompt(self, num: int) -> str:
        """What a server puts before the turn behind the first ``num``. A conversation that begins with an answer has
        what the template writes there.

        Raises:
            BadLine: the template refuses the messages.
            ConfigurationError: there is no template, or it is broken.
        """
        before = self._before(num)
        return self._render(before, opens_answer=True) if before else self.around(num)[0]

    def answered(self, num: int, prompt: str) -> str:
        """What is to be learned after the prompt: the answer as it was given, in what the template writes around one,
        with its reasoning and its calls.

        Raises ``BadLine`` where that cannot be told.
        """
        turn = self.row.turns[num]
        if turn.reasoning is not None or (turn.calls and not self._says_calls(turn)):
            return self._whole(num, prompt, turn)
        return self._spoken(num, prompt, self.template.written([turn.message])[0]["content"])

    def around(self, num: int) -> tuple[str, str]:
        """What the template writes before an answer that is finished, and after it."""
        whole = self._render([*self._before(num), {"role": "assistant", "content": _PROBE}])
        head, found, after = whole.rpartition(_PROBE)
        return (head, after) if found else (whole, "")

    def check_shown(self, num: int, prompt: str) -> None:
        """Raises ``BadLine`` where the prompt lacks what a user or the system said in the turns before the answer."""
        there = _without_blanks(prompt)
        for number, turn in enumerate(self.row.turns[:num], start=1):
            told = turn.role in ("system", "user") and turn.content.strip()
            if told and _without_blanks(self.template.marked(turn.content)) not in there:
                raise BadLine(
                    f"the base's chat template writes nothing of message {number}, of role {turn.role!r}: say it in "
                    "another turn, or leave it out."
                )

    def _spoken(self, num: int, prompt: str, answer: str) -> str:
        """An answer that is a text.

        Some templates write a finished turn otherwise than they open one: without its reasoning, or without a tag that
        the prompt opens. Then it stands after what the prompt opens. And many trim: what is left of an earlier turn's
        blanks is the template's matter, but an answer's own are a model's to write.
        """
        whole = self._render([*self._before(num), {"role": "assistant", "content": answer}])
        given = self.template.marked(answer)
        head, after = self.around(num)
        if head.startswith(prompt) and _without_blanks(whole) == _without_blanks(head + given + after):
            return head[len(prompt) :] + given + after
        if whole.startswith(prompt) and given in whole[len(prompt) :]:
            return whole[len(prompt) :]
        return behind_opened(prompt, given) + after

    def _whole(self, num: int, prompt: str, turn: Turn) -> str:
        """One with reasoning, or with calls in the template's own form: what the template writes of the finished turn
        behind the prompt.
        """
        whole = self._render([*self._before(num), turn.message])
        learned = _goes_on(prompt, whole)
        if learned is None and not turn.calls:
            learned = self._behind_rewritten(num, prompt, whole)
        if learned is not None and self._has(learned, turn):
            return learned
        if turn.reasoning is None:
            raise BadLine(
                "the base's chat template writes the finished turn otherwise than it opens it, and not all of its "
                "calls: what is to be learned cannot be told. Take a base with another template, or write the calls "
                "into the content."
            )
        if prompt.rstrip().endswith("</think>"):
            raise BadLine(
                'the base\'s chat template opens an answer without reasoning: say "chat_template_kwargs": '
                '{"enable_thinking": true} in the row, or leave the reasoning out.'
            )
        if "</think>" not in self.template.text:
            raise BadLine(
                "the base's chat template has no place for reasoning: write it into the content, or leave it out."
            )
        thought = _THOUGHT.format(turn.reasoning.strip(), turn.content)
        return replace(self, row=self._with(num, replace(turn, reasoning=None, content=thought))).answered(num, prompt)

    def _behind_rewritten(self, num: int, prompt: str, whole: str) -> str | None:
        """A finished turn where the template rewrites the turns before it: what stands behind the opening of its own
        turn, which is the last before the first place where it differs from another answer's.
        """
        before = self._render(self._before(num))
        opening = prompt.removeprefix(before) if prompt.startswith(before) else ""
        other = self._render([*self._before(num), {"role": "assistant", "content": _PROBE}])
        same = next((at for at, (one, its) in enumerate(zip(whole, other, strict=False)) if one != its), len(other))
        at = whole.rfind(opening, 0, same) if opening else -1
        return None if at < 0 else whole[at + len(opening) :]

    def _has(self, learned: str, turn: Turn) -> bool:
        """Whether nothing of a turn is missing."""
        there = _without_blanks(learned)
        texts = [turn.content, turn.reasoning or "", *(call["function"]["name"] for call in turn.calls)]
        return all(_without_blanks(self.template.marked(text)) in there for text in texts)

    def _says_calls(self, turn: Turn) -> bool:
        """Whether the template has no form for calls, so that they stand in the text."""
        return "tool_calls" not in self.template.written([turn.message])[0]

    def _with(self, num: int, turn: Turn) -> Conversation:
        return replace(self.row, turns=(*self.row.turns[:num], turn))

    def _before(self, num: int) -> list[dict[str, Any]]:
        return [turn.message for turn in self.row.turns[:num]]

    def _render(self, messages: Sequence[Message], *, opens_answer: bool = False) -> str:
        return self.template.render(messages, self.row.tools, self.row.variables, opens_answer=opens_answer)


def _without_blanks(text: str) -> str:
    return "".join(text.split())


def _goes_on(prompt: str, whole: str) -> str | None:
    """What a finished turn adds to the prompt; a tag that the prompt opens and the turn lacks is closed at once."""
    if whole.startswith(prompt):
        return whole[len(prompt) :]
    opened = OPENED_TAG.search(prompt)
    if opened is None or not whole.startswith(head := prompt[: opened.start()]):
        return None
    return behind_opened(prompt, whole[len(head) :])
