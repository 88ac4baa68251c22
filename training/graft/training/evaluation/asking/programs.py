"""A prompt program of a running server: the question goes in as variables, and the program writes the prompt."""

from __future__ import annotations

from collections.abc import Sequence

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
        self._client = client
        self._no_variables: frozenset[str] = frozenset()

    def say(self, asked: Asked, decoding: Decoding) -> tuple[str, ...]:
        given = {name: value for name, value in asked.variables.items() if name not in self._no_variables}
        try:
            reply = self._client.run_prompt(self.name.removeprefix(PREFIX), given)
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
