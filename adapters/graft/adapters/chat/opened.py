"""Tags that a chat template opens with the assistant's turn, such as `<think>`."""

from __future__ import annotations

import re

OPENED_TAG = re.compile(r"(<([^<>/|]+)>)(\s*)\Z")


def behind_opened(prompt: str, answer: str) -> str:
    """An answer behind a prompt that may end in an opened tag: one that begins with the tag goes on in it, and one that
    has nothing of it closes it.
    """
    opened = OPENED_TAG.search(prompt)
    if opened is None:
        return answer
    tag, name, blanks = opened.groups()
    if answer.lstrip().startswith(tag):
        return answer.lstrip().removeprefix(tag).removeprefix(blanks)
    if f"</{name}>" in answer:
        return answer
    return f"{'' if not blanks else chr(10)}</{name}>\n\n{answer}"
