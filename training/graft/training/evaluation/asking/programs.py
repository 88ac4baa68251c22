"""A prompt program of a running server: the question goes in as variables, and the program writes the prompt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from graft.client import Client, InvalidArgument, NoAnswer
from graft.training.evaluation.asking.model import Asked, Decoding, Model, Refused, Scored, Unanswered
from graft.training.evaluation.asking.served import ServedModel

PREFIX = "prompt:"


class ProgramModel:
    """Asks by ``RunPrompt``. Decoding, examples, reasoning and votes are the program's own; of a question's fields it
    is given those that are its variables.
    """

    def __init__(self, client: Client, name: str) -> None:
        self.name = name
        self._reference = name.removeprefix(PREFIX)
        self._client = client
        self._no_variables: frozenset[str] = frozenset()

    def reads(self, fields: Mapping[str, Any]) -> frozenset[str]:
        """Which of the fields are variables of the program, by a preview: no model is asked. None of them where
        the server refuses the program for another reason.
        """
        given = {name: value for name, value in fields.items() if name not in self._no_variables}
        try:
            self._client.preview_prompt(self._reference, given)
        except InvalidArgument as error:
            no_variables = _no_variables(error) & given.keys()
            self._no_variables |= no_variables
            if no_variables:
                return self.reads(fields)
            is_of_values = any(one.field.startswith("variables") for one in error.violations)
            return frozenset(given) if is_of_values else frozenset()
        return frozenset(given)

    def say(self, asked: Asked, decoding: Decoding) -> tuple[str, ...]:
        given = {name: value for name, value in asked.variables.items() if name not in self._no_variables}
        try:
            reply = self._client.run_prompt(self._reference, given)
        except NoAnswer as error:
            raise Unanswered(f"no answer: {error}") from None
        except InvalidArgument as error:
            no_variables = _no_variables(error) & given.keys()
            if not no_variables:
                raise Refused.by(error) from None
            self._no_variables |= no_variables
            return self.say(asked, decoding)
        return (reply.answer,) * decoding.num_paths

    def score(self, asked: Asked, continuations: Sequence[str]) -> tuple[Scored, ...]:
        """Programs say answers. Raises ``Refused`` always."""
        raise Refused(f"{self.name} is a program and scores no text")


def _no_variables(error: InvalidArgument) -> frozenset[str]:
    """The fields of which the server says that the program has no such variable."""
    fields = [one.field for one in error.violations if "is no variable" in one.description]
    return frozenset(field.removeprefix("variables.") for field in fields)


def model_of(client: Client, name: str) -> Model:
    """What a user's ``--model`` means."""
    return ProgramModel(client, name) if name.startswith(PREFIX) else ServedModel(client, name)
