"""A prompt program of a running server: the question goes in as variables, and the program writes the prompt."""

from __future__ import annotations

from collections.abc import Sequence

from graft.client import Client, InvalidArgument
from graft.training.errors import ConfigurationError
from graft.training.evaluation.asking.model import Asked, Decoding, Model, Refused, Scored
from graft.training.evaluation.asking.served import ServedModel

PREFIX = "prompt:"


class ProgramModel:
    """Asks by ``RunPrompt``. Decoding, examples, reasoning and votes are the program's own."""

    def __init__(self, client: Client, name: str) -> None:
        """Raises ``ConfigurationError`` where the client cannot run programs."""
        self.name = name
        self._run = getattr(client, "run_prompt", None)
        if self._run is None:
            raise ConfigurationError(f"--model {name}: this version's client runs no prompt programs.")

    def say(self, asked: Asked, decoding: Decoding) -> tuple[str, ...]:
        try:
            reply = self._run(self.name.removeprefix(PREFIX), dict(asked.variables))  # type: ignore[misc]
        except InvalidArgument as error:
            raise Refused(str(error)) from None
        return (str(reply.answer),) * decoding.num_paths

    def score(self, asked: Asked, continuations: Sequence[str]) -> tuple[Scored, ...]:
        """Programs say answers. Raises ``Refused`` always."""
        raise Refused(f"{self.name} is a program and scores no text")


def model_of(client: Client, name: str) -> Model:
    """What a user's ``--model`` means. Raises ``ConfigurationError``."""
    return ProgramModel(client, name) if name.startswith(PREFIX) else ServedModel(client, name)
