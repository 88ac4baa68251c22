"""A version before it is numbered, checked as a whole."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

from graft.adapters.errors import InvalidReference
from graft.server.errors import BadInput
from graft.server.prompting.program.canonical import canonical_json, digest_of
from graft.server.prompting.program.names import check_label, check_prompt_name
from graft.server.prompting.program.program import PromptProgram
from graft.server.prompting.program.reading import read_program
from graft.server.runtime.violations import Violations, shown

MAX_TAGS = 32
MAX_TAG_CHARACTERS = 64
MAX_LABELS = 32
MAX_MESSAGE_CHARACTERS = 2_000


@dataclass(frozen=True, kw_only=True)
class Draft:
    """What is to be registered; `labels` shall point at it."""

    tenant: str
    prompt: str
    program: PromptProgram
    tags: tuple[str, ...] = ()
    commit_message: str = ""
    labels: tuple[str, ...] = ()

    @cached_property
    def text(self) -> str:
        """The program's canonical JSON."""
        return canonical_json(self.program)

    @cached_property
    def digest(self) -> str:
        """That of the text."""
        return digest_of(self.text)


def read_draft(
    *, tenant: str, prompt: str, program: str, tags: Sequence[str], commit_message: str, labels: Sequence[str]
) -> Draft:
    """From what a caller sent, `program` as JSON. Raises `BadInput` with everything that is wrong."""
    violations = Violations()
    _judge("prompt", lambda: check_prompt_name(prompt), violations)
    if len(labels) > MAX_LABELS:
        violations.add("labels", f"has {len(labels)} entries; the limit is {MAX_LABELS}")
    for number, label in enumerate(labels[:MAX_LABELS]):
        _judge(f"labels[{number}]", lambda label=label: check_label(label), violations)  # type: ignore[misc]
    _check_tags(tags, violations)
    if len(commit_message) > MAX_MESSAGE_CHARACTERS:
        problem = f"has {len(commit_message)} characters; the limit is {MAX_MESSAGE_CHARACTERS}"
        violations.add("commit_message", problem)
    if "\0" in commit_message:
        violations.add("commit_message", "holds a NUL character")
    value = None
    try:
        value = read_program(program)
    except BadInput as error:
        for one in error.violations:
            violations.add(one.field, one.problem)
    violations.raise_any()
    assert value is not None
    return Draft(
        tenant=tenant,
        prompt=prompt,
        program=value,
        tags=tuple(dict.fromkeys(tags)),
        commit_message=commit_message,
        labels=tuple(dict.fromkeys(labels)),
    )


def _judge(field: str, check: Callable[[], object], violations: Violations) -> None:
    try:
        check()
    except InvalidReference as error:
        for reason in error.reasons:
            violations.add(field, reason.problem)


def _check_tags(tags: Sequence[str], violations: Violations) -> None:
    if len(tags) > MAX_TAGS:
        violations.add("tags", f"has {len(tags)} entries; the limit is {MAX_TAGS}")
    for number, tag in enumerate(tags[:MAX_TAGS]):
        if not tag.strip() or not tag.isprintable():
            violations.add(f"tags[{number}]", f"is {shown(tag)}; a tag is printable text")
        elif len(tag) > MAX_TAG_CHARACTERS:
            violations.add(f"tags[{number}]", f"has {len(tag)} characters; the limit is {MAX_TAG_CHARACTERS}")
