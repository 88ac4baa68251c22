"""How requests name a program: `<name>`, `<name>:<label>`, `<name>@<version>`, and the forms of MLflow and OpenAI."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from graft.adapters.errors import InvalidReference, Reason
from graft.adapters.names import check_name
from graft.server.prompting.program.names import check_prompt_name, is_version
from graft.server.runtime.violations import Violations, shown

SHAPES = (
    "<name>, <name>:<label>, <name>@<number or digest>, the same behind prompt:, "
    "prompts:/<name>@<label> and prompts:/<name>/<number>"
)
PREFIX = "prompt:"
"""What tells a program from an adapter where a request's `model` may be either."""
_MLFLOW = "prompts:/"
_OPENAI_FIELDS = ("id", "version", "variables")


@dataclass(frozen=True, kw_only=True)
class PromptReference:
    """A program's name, and which of its versions: a number, a digest's beginning, a label; None is `production`."""

    name: str
    selector: str | None = None

    def __str__(self) -> str:
        if self.selector is None:
            return self.name
        return f"{self.name}{'@' if is_version(self.selector) else ':'}{self.selector}"


def is_prompt_reference(model: str) -> bool:
    """Whether a request's `model` names a program."""
    return model.startswith((PREFIX, _MLFLOW))


def read_reference(text: str) -> PromptReference:
    """What a reference names, in any of `SHAPES`. Raises InvalidReference."""
    if text.startswith(_MLFLOW):
        return _mlflow(text.removeprefix(_MLFLOW), text)
    name, at, version = text.removeprefix(PREFIX).partition("@")
    if at:
        if not is_version(version):
            remedy = f"; a label is written {name[:100]}:{version[:100]}"
            raise _invalid(text, f"{version[:100]!r} is neither a number nor a digest (8 hex digits or more){remedy}")
        return PromptReference(name=check_prompt_name(name), selector=version)
    name, colon, label = name.partition(":")
    if not colon:
        return PromptReference(name=check_prompt_name(name))
    if is_version(label):
        raise _invalid(text, f"{label[:100]!r} is no label; a version is written {name[:100]}@{label[:100]}")
    return PromptReference(name=check_prompt_name(name), selector=check_name(label, what="label"))


def read_selector(text: str) -> str | None:
    """A number, digest or label that stands alone; None for an empty text. Raises InvalidReference."""
    if not text:
        return None
    return text if is_version(text) else check_name(text, what="label")


def _mlflow(rest: str, text: str) -> PromptReference:
    name, at, label = rest.rpartition("@")
    if at:
        if is_version(label):
            raise _invalid(text, f"{label[:100]!r} is no label; a version is written {_MLFLOW}{name[:100]}/{label}")
        return PromptReference(name=check_prompt_name(name), selector=check_name(label, what="label"))
    name, slash, number = rest.rpartition("/")
    if not slash or not (number.isascii() and number.isdigit()):
        raise _invalid(text, f"this form ends in @<label> or /<number>, as {_MLFLOW}{rest[:100] or '<name>'}/1")
    return PromptReference(name=check_prompt_name(name), selector=number)


def _invalid(text: str, problem: str) -> InvalidReference:
    return InvalidReference(
        f"the prompt {text[:200]!r} cannot be read", [Reason(field="prompt", problem=problem, remedy=SHAPES)]
    )


def read_openai_prompt(value: Any) -> tuple[PromptReference, Mapping[str, Any]]:
    """OpenAI's `prompt: {id, version, variables}`: what it names, and the variables' values as they are given.

    `id` is a name; `version` a text with a number, digest or label. A value `{"type": "input_text", "text": …}` is
    its text. Raises `BadInput`, InvalidReference.
    """
    violations = Violations()
    if not isinstance(value, Mapping):
        violations.add("prompt", f"must be an object with {', '.join(_OPENAI_FIELDS)}")
        violations.raise_any()
    for key in violations.until_full(key for key in value if key not in _OPENAI_FIELDS):
        violations.add(f"prompt.{key[:40]}", f"is not known; there are {', '.join(_OPENAI_FIELDS)}")
    name, version, variables = value.get("id"), value.get("version"), value.get("variables")
    if not isinstance(name, str):
        violations.add("prompt.id", "is missing" if name is None else f"is {shown(name)}; it must be a prompt's name")
    if not isinstance(version, str | None):
        violations.add("prompt.version", f'is {shown(version)}; it must be a text, such as "3"')
    if not isinstance(variables, Mapping | None):
        violations.add("prompt.variables", f"is {shown(variables)}; it must be an object")
    violations.raise_any()
    values = {key: _plain(key, one, violations) for key, one in (variables or {}).items()}
    violations.raise_any()
    return PromptReference(name=check_prompt_name(str(name)), selector=read_selector(version or "")), values


def _plain(key: str, value: Any, violations: Violations) -> Any:
    if not isinstance(value, Mapping) or "type" not in value:
        return value
    if value["type"] == "input_text" and isinstance(value.get("text"), str):
        return value["text"]
    violations.add(f"prompt.variables.{key[:40]}", f"is of type {shown(value['type'])}; only texts are taken here")
    return None
