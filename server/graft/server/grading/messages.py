"""What a grading model is asked: turns of a chat with templates in them."""

from __future__ import annotations

from typing import Any

from graft.server.grading.fields import Fields, as_object
from graft.server.grading.graders import Message
from graft.server.grading.templates import Template
from graft.server.runtime.violations import shown

MAX_MESSAGES = 256
MAX_PARTS = 256
_ROLES = ("user", "assistant", "system", "developer")
_TEXTS = ("input_text", "output_text")
_UNSERVED = {"input_image": "images", "input_audio": "audio"}


def read_messages(fields: Fields, name: str) -> tuple[Message, ...]:
    """Empty where they are refused."""
    value = fields.required(name)
    if value is None:
        return ()
    if not isinstance(value, list) or not 1 <= len(value) <= MAX_MESSAGES:
        fields.refuse(name, f"is {shown(value)}; it must be a list of 1 to {MAX_MESSAGES} messages")
        return ()
    read = [_message(one, fields, f"{name}[{index}]") for index, one in fields.violations.until_full(enumerate(value))]
    return tuple(message for message in read if message is not None)


def _message(value: object, fields: Fields, name: str) -> Message | None:
    said = as_object(value, fields.at(name), fields.violations)
    if said is None:
        if value is None:
            fields.refuse(name, "is null; it must be a message")
        return None
    message = Fields(said, fields.at(name), fields.violations)
    message.optional_choice("type", ("message",))
    role = message.choice("role", _ROLES)
    content = _content(message.required("content"), message, "content")
    message.no_others()
    # What OpenAI's newer models call developer, others call system.
    return Message(role="system" if role == "developer" else role, content=content)


def _content(value: Any, message: Fields, name: str) -> Template:
    """Parts of a content follow each other in lines, as in chats."""
    if value is None:
        return Template(parts=())
    if isinstance(value, list):
        return _parts(value, message, name)
    return _part(value, message, name)


def _parts(value: list[Any], message: Fields, name: str) -> Template:
    if len(value) > MAX_PARTS:
        message.refuse(name, f"has {len(value)} parts; the limit is {MAX_PARTS}")
        return Template(parts=())
    parts = [_part(one, message, f"{name}[{index}]") for index, one in message.violations.until_full(enumerate(value))]
    between = [part for one in parts for part in ("\n", *one.parts)]
    return Template(parts=tuple(between[1:]))


def _part(value: Any, message: Fields, name: str) -> Template:
    if isinstance(value, str):
        return message.template_of(value, name)
    part = as_object(value, message.at(name), message.violations)
    if part is None:
        if value is None:
            message.refuse(name, "is null; it must be a text")
        return Template(parts=())
    fields = Fields(part, message.at(name), message.violations)
    kind = part.get("type")
    if isinstance(kind, str) and kind in _UNSERVED:
        fields.refuse("type", f"is {shown(kind)}: bases here read no {_UNSERVED[kind]}")
        return Template(parts=())
    fields.choice("type", _TEXTS)
    template = fields.template("text")
    fields.no_others()
    return template
