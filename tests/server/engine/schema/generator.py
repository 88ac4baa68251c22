"""Schemas over the keywords of JSON Schema 2020-12, drawn from a seed. Most can be met; all may be odd."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

_NAMES = ("a", "b", "name", "id", "tags", "x-1", "kind", "value")
_PATTERNS = ("^[a-z]{2,5}$", r"^\d{3}-\d{2}$", "^(ab|cd)+$", "[A-Z]", "^.{3}$", "^[^x]*$", r"\w+@\w+")
_FORMATS = ("date-time", "date", "time", "email", "uuid", "ipv4", "ipv6", "hostname", "uri", "duration", "int32")
_VALUES = (None, True, False, 0, 1, -3, 2.5, "a", "red", "green", "ü€", [], [1, "a"], {"a": 1}, {})
_NODE = {
    "type": "object",
    "properties": {
        "value": {"type": "integer", "minimum": 0},
        "next": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]},
        "children": {"type": "array", "items": {"$ref": "#/$defs/node"}},
    },
    "required": ["value"],
    "additionalProperties": False,
}
# What OpenAI's strict mode knows, and the kinds of schema that speak of one type each.
_SCALARS = ("number", "string", "string", "enum", "const", "boolean", "null", "types")
_STRICT = (*_SCALARS, "array", "object", "object", "anyOf", "ref")
_ALL = (*_STRICT, "array", "object", "object", "allOf", "oneOf", "not", "if", "untyped", "free")


class Generator:
    """One schema: `root()`. With `strict` only what OpenAI's strict subset has."""

    def __init__(self, seed: int, *, strict: bool = False) -> None:
        self._random = random.Random(seed)
        self._strict = strict

    def root(self) -> dict[str, Any]:
        found = self._object(3) if self._strict or self._chance(0.7) else self._schema(3)
        if "#/$defs/node" in repr(found):
            found["$defs"] = {"node": _NODE}
        return found

    def _schema(self, depth: int) -> dict[str, Any]:
        kinds = _SCALARS if depth == 0 else _STRICT if self._strict else _ALL
        found: dict[str, Any] = getattr(self, f"_{self._random.choice(kinds)}")(depth)
        if self._chance(0.15):
            found |= {"description": "of a thing", "default": 1}
        return found

    def _chance(self, share: float) -> bool:
        return self._random.random() < share

    def _some(self, known: dict[str, Callable[[], Any]], *counts: int) -> dict[str, Any]:
        return {key: known[key]() for key in self._random.sample(sorted(known), self._random.choice(counts))}

    def _one(self, *values: Any) -> Any:
        return self._random.choice(values)

    def _number(self, depth: int) -> dict[str, Any]:
        known: dict[str, Callable[[], Any]] = {
            "minimum": lambda: self._one(-100, -1.5, 0, 0.25, 1, 10),
            "exclusiveMinimum": lambda: self._one(-100, 0, 10),
            "maximum": lambda: self._one(20, 100.5, 1000, 37, 99),
            "exclusiveMaximum": lambda: self._one(20, 1000, 99),
            "multipleOf": lambda: self._one(1, 2, 3, 5, 10, 0.5, 0.01, 0.1, 7),
        }
        return {"type": self._one("integer", "number"), **self._some(known, 0, 1, 1, 2)}

    def _string(self, depth: int) -> dict[str, Any]:
        known: dict[str, Callable[[], Any]] = {
            "minLength": lambda: self._one(0, 1, 3),
            "maxLength": lambda: self._one(5, 10, 40),
            "pattern": lambda: self._one(*_PATTERNS),
        }
        found = {"type": "string", **self._some(known, 0, 1, 1, 2)}
        return {"type": "string", "format": self._one(*_FORMATS)} if self._chance(0.2) else found

    def _enum(self, depth: int) -> dict[str, Any]:
        return {"enum": [self._one(*_VALUES) for _ in range(self._one(1, 2, 3))]}

    def _const(self, depth: int) -> dict[str, Any]:
        return {"const": self._one(*_VALUES)}

    def _boolean(self, depth: int) -> dict[str, Any]:
        return {"type": "boolean"}

    def _null(self, depth: int) -> dict[str, Any]:
        return {"type": "null"}

    def _types(self, depth: int) -> dict[str, Any]:
        return {"type": self._random.sample(["null", "boolean", "integer", "string", "number"], 2)}

    def _array(self, depth: int) -> dict[str, Any]:
        known: dict[str, Callable[[], Any]] = {
            "items": lambda: self._schema(depth - 1),
            "minItems": lambda: self._one(0, 1, 2),
            "maxItems": lambda: self._one(2, 3, 5),
        }
        if not self._strict:
            known["prefixItems"] = lambda: [self._schema(depth - 1) for _ in range(self._one(1, 2))]
            known["contains"] = lambda: self._schema(0)
            known["uniqueItems"] = lambda: True
        found = {"type": "array", **self._some(known, 1, 2, 2, 3)}
        if "contains" in found:
            counts: dict[str, Callable[[], Any]] = {
                "minContains": lambda: self._one(0, 1, 2),
                "maxContains": lambda: self._one(2, 3),
            }
            found.pop("items", None)
            found |= self._some(counts, 0, 0, 1, 2)
        if "uniqueItems" in found:
            found["items"] = self._one(
                {"enum": ["a", "b", "c", 1]}, {"type": "boolean"}, {"type": "integer", "minimum": 1, "maximum": 6}, {}
            )
        if "prefixItems" in found and self._chance(0.3):
            found = {**found, "unevaluatedItems": False, "minItems": 0}
        return found

    def _object(self, depth: int) -> dict[str, Any]:
        names = self._random.sample(_NAMES, self._one(1, 2, 3))
        found: dict[str, Any] = {
            "type": "object",
            "properties": {name: self._schema(max(depth - 1, 0)) for name in names},
            "required": [name for name in names if self._chance(0.6)],
        }
        if self._strict:
            return {**found, "additionalProperties": False}
        if self._chance(0.4):
            found["additionalProperties"] = self._one(False, True, self._schema(0))
        known: dict[str, Callable[[], Any]] = {
            "patternProperties": lambda: {self._one("^x-", "^[A-C]$", "_id$"): self._schema(0)},
            "minProperties": lambda: self._one(1, len(names)),
            "maxProperties": lambda: self._one(3, 4, 5),
            "propertyNames": lambda: self._one({"pattern": "^[a-z]"}, {"maxLength": 5}, {"enum": list(_NAMES)}),
            "dependentRequired": lambda: {names[0]: [names[-1]]},
            "dependentSchemas": lambda: {names[0]: {"required": [names[-1]]}},
            "unevaluatedProperties": lambda: self._one(False, {"type": "integer"}),
        }
        return found | self._some(known, 0, 0, 0, 1, 1)

    def _open_object(self) -> dict[str, Any]:
        names = self._random.sample(_NAMES, 2)
        return {"type": "object", "properties": {name: self._schema(0) for name in names}, "required": names[:1]}

    def _anyOf(self, depth: int) -> dict[str, Any]:
        return {"anyOf": [self._schema(depth - 1) for _ in range(2)]}

    def _oneOf(self, depth: int) -> dict[str, Any]:
        return {"oneOf": [self._schema(depth - 1) for _ in range(2)]}

    def _allOf(self, depth: int) -> dict[str, Any]:
        if self._chance(0.5):
            return {"allOf": [{"type": "string", "minLength": 1}, {"maxLength": 12}]}
        first = self._open_object()
        second = self._open_object()
        second["properties"] = {k: v for k, v in second["properties"].items() if k not in first["properties"]}
        return (
            {"allOf": [first, second], "unevaluatedProperties": False}
            if self._chance(0.3)
            else {"allOf": [first, second]}
        )

    def _not(self, depth: int) -> dict[str, Any]:
        if self._chance(0.5):
            return {"not": self._schema(0)}
        found = self._open_object()
        absent = self._one(*(name for name in _NAMES if name not in found["required"]))
        return {**found, "not": {"required": [absent]}}

    def _if(self, depth: int) -> dict[str, Any]:
        found = self._open_object()
        found["properties"]["kind"] = {"enum": ["a", "b"]}
        return {
            **found,
            "if": {"properties": {"kind": {"const": "a"}}, "required": ["kind"]},
            "then": {"required": ["kind"]},
            "else": {"properties": {"extra": self._string(0)}},
        }

    def _ref(self, depth: int) -> dict[str, Any]:
        return {"$ref": "#/$defs/node"}

    def _untyped(self, depth: int) -> dict[str, Any]:
        made = self._one(self._number, self._string, self._array, self._object)(depth - 1 if depth > 1 else 1)
        return {key: value for key, value in made.items() if key != "type"}

    def _free(self, depth: int) -> dict[str, Any]:
        return dict(self._one({}, {"type": "object"}, {"type": "array"}))
