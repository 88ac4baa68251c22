"""A function that a model may call, as chat templates read it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

NO_PARAMETERS: Mapping[str, Any] = {"type": "object", "properties": {}, "additionalProperties": False}


def listed(name: str, description: str, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """In OpenAI's form: with the keys, and in the order, that templates are given in training and in serving."""
    told = {"description": description} if description else {}
    return {"type": "function", "function": {"name": name, **told, "parameters": dict(parameters)}}
