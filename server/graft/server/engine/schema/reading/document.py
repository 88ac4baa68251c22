"""A schema as a document: the standard it follows, its places and what its references point to."""

from __future__ import annotations

import urllib.parse
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import referencing
import referencing.exceptions
import referencing.jsonschema
from jsonschema.exceptions import best_match  # type: ignore[import-untyped]

from graft.server.engine.schema.refusal import SchemaRefused, escaped

_Specification = referencing.Specification[Any]
_NEWEST = referencing.jsonschema.DRAFT202012
_ORDER = (
    referencing.jsonschema.DRAFT6,
    referencing.jsonschema.DRAFT7,
    referencing.jsonschema.DRAFT201909,
    _NEWEST,
)
# Keywords that came after draft 6, by the place in `_ORDER` of the standard that brought them, and those that went.
_SINCE = {
    "if": 1,
    "then": 1,
    "else": 1,
    "$anchor": 2,
    "dependentRequired": 2,
    "dependentSchemas": 2,
    "maxContains": 2,
    "minContains": 2,
    "unevaluatedItems": 2,
    "unevaluatedProperties": 2,
    "prefixItems": 3,
    "$dynamicRef": 3,
}
_UNTIL = {"dependencies": 1, "additionalItems": 2, "$recursiveRef": 2}


@dataclass(frozen=True, kw_only=True)
class Place:
    """A schema in the document; `schema` holds only the keywords that its standard knows."""

    schema: Mapping[str, Any] | bool
    pointer: str
    resolver: Any


class Document:
    """The places of one schema, numbered as they are reached; place 0 is `false`, place 1 the schema itself."""

    def __init__(self, schema: Mapping[str, Any] | bool) -> None:
        """Raises `SchemaRefused` where the schema breaks the standard that it follows."""
        dialect = schema.get("$schema") if isinstance(schema, Mapping) else None
        self._standard = _standard(dialect)
        _check(schema, self._standard)
        self._level = _ORDER.index(self._standard)
        resolver = self._resolver(schema)
        self._pointers = {id(node): pointer for pointer, node in _walk(schema, "")}
        self._dynamic = self._anchors(schema)
        self._numbers: dict[tuple[int, str], int] = {}
        self.places = [Place(schema=False, pointer="", resolver=resolver)]
        self._kept: list[Any] = [schema]  # places are known by identity: what is made here must live
        self.root = self.place(schema, "", resolver)

    def _resolver(self, schema: Any) -> Any:
        resource = self._standard.create_resource(schema)
        uri = resource.id() or ""
        registry: referencing.Registry[Any] = referencing.Registry().with_resource(uri, resource)
        try:
            return registry.crawl().resolver(uri)
        except (ValueError, TypeError, AttributeError) as error:
            raise _unread(schema) from error

    @property
    def contains_evaluates(self) -> bool:
        """Whether `unevaluatedItems` leaves the items alone that match `contains`."""
        return self._standard is _NEWEST

    def place(self, schema: Any, pointer: str, resolver: Any) -> int:
        """The number of a schema."""
        if schema is False:
            return 0
        key = (id(schema), pointer)
        if key not in self._numbers:
            if isinstance(schema, Mapping) and "$id" in schema:
                resolver = _below(resolver, self._standard.create_resource(schema), pointer)
            self._numbers[key] = len(self.places)
            self.places.append(Place(schema=self._known(schema), pointer=pointer, resolver=resolver))
        return self._numbers[key]

    def below(self, number: int, *path: str | int) -> int:
        """The schema under a keyword of a place."""
        place = self.places[number]
        schema: Any = place.schema
        for part in path:
            schema = schema[part]
        return self.place(schema, place.pointer + "".join(f"/{escaped(part)}" for part in path), place.resolver)

    def made(self, schema: Mapping[str, Any], near: int) -> int:
        """A place for a schema that stands nowhere but follows from one that does."""
        self._kept.append(schema)
        return self.place(schema, self.places[near].pointer, self.places[near].resolver)

    def target(self, number: int, keyword: str) -> int:
        """What a reference points to. Raises `SchemaRefused` where that is not in this document."""
        place = self.places[number]
        assert isinstance(place.schema, Mapping)
        reference = str(place.schema[keyword])
        if keyword == "$recursiveRef":
            reference = "#"
        if keyword == "$dynamicRef":
            name = reference.partition("#")[2]
            if self._dynamic.count(name) > 1:
                problem = f"$dynamicRef `{reference[:80]}` has several targets; write `$ref`"
                raise SchemaRefused(problem, pointer=place.pointer, keyword=keyword)
        try:
            found = place.resolver.lookup(reference)
        except (referencing.exceptions.Unresolvable, ValueError, KeyError, TypeError) as error:
            problem = f"{keyword} `{reference[:80]}` points to nothing in this schema; put its target below `$defs`"
            raise SchemaRefused(problem, pointer=place.pointer, keyword=keyword) from error
        if not isinstance(found.contents, Mapping | bool):
            problem = f"{keyword} `{reference[:80]}` points to something that is no schema"
            raise SchemaRefused(problem, pointer=place.pointer, keyword=keyword)
        pointer = self._pointers.get(id(found.contents), f"{place.pointer}/{escaped(keyword)}")
        return self.place(found.contents, pointer, found.resolver)

    def _known(self, schema: Any) -> Mapping[str, Any] | bool:
        if not isinstance(schema, Mapping):
            return bool(schema)
        if self._level <= 1 and "$ref" in schema:
            return {"$ref": schema["$ref"]}  # up to draft 7 what stands beside it is not read
        return {
            key: value
            for key, value in schema.items()
            if _SINCE.get(key, 0) <= self._level <= _UNTIL.get(key, len(_ORDER))
        }

    @staticmethod
    def _anchors(schema: Any) -> list[str]:
        nodes = (node for _, node in _walk(schema, "") if isinstance(node, Mapping))
        return [node["$dynamicAnchor"] for node in nodes if isinstance(node.get("$dynamicAnchor"), str)]


def _below(resolver: Any, resource: Any, pointer: str) -> Any:
    try:
        return resolver.in_subresource(resource)
    except ValueError as error:
        raise _no_uri(resource.contents["$id"], pointer) from error


def _unread(schema: Any) -> SchemaRefused:
    """What in a schema keeps its parts from being told apart: an `$id` that is none, or another standard inside."""
    nodes = [(pointer, node) for pointer, node in _walk(schema, "") if isinstance(node, Mapping)]
    for pointer, node in nodes:
        try:
            urllib.parse.urlsplit(str(node.get("$id", "")))
        except ValueError:
            return _no_uri(node["$id"], pointer)
    inner = next((pointer for pointer, node in nodes if pointer and "$schema" in node), "")
    return SchemaRefused("another standard inside a schema is not supported; leave it out", pointer=f"{inner}/$schema")


def _no_uri(given: object, pointer: str) -> SchemaRefused:
    problem = f"$id `{str(given)[:80]}` is no URI reference (RFC 3986); leave it out"
    return SchemaRefused(problem, pointer=pointer, keyword="$id")


def _standard(dialect: object) -> _Specification:
    if dialect is None:
        return _NEWEST
    try:
        found = referencing.jsonschema.specification_with(str(dialect), default=_NEWEST)
    except (referencing.exceptions.CannotDetermineSpecification, ValueError):
        found = _NEWEST
    if found not in _ORDER:
        raise SchemaRefused(
            f"$schema `{str(dialect)[:80]}` is older than draft 6; write the schema after draft 2020-12",
            keyword="$schema",
        )
    return found


def _check(schema: Any, standard: _Specification) -> None:
    names = dict(zip(_ORDER, ("Draft6", "Draft7", "Draft201909", "Draft202012"), strict=True))
    validator = getattr(jsonschema, f"{names[standard]}Validator")
    found = best_match(validator(validator.META_SCHEMA).iter_errors(schema))
    if found is not None:
        pointer = "".join(f"/{escaped(part)}" for part in found.absolute_path)
        raise SchemaRefused(f"the schema is broken: {found.message[:160]}", pointer=pointer)


def _walk(node: Any, pointer: str) -> Iterator[tuple[str, Any]]:
    """Every object and list below a node, with its pointer."""
    stack = [(pointer, node)]
    while stack:
        pointer, node = stack.pop()
        children: Any = ()
        if isinstance(node, Mapping):
            children = node.items()
        elif isinstance(node, list):
            children = enumerate(node)
        else:
            continue
        yield pointer, node
        stack.extend((f"{pointer}/{escaped(key)}", child) for key, child in children)
