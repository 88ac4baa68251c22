"""A YAML or JSON file as plain values, with the line of every part, so that a refusal can name it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]

from graft.adapters.text.file import read_text
from graft.training.errors import DataError, of_data

MAX_PARTS = 500_000
"""Values in a file, each alias counted as what it stands for."""
MAX_CHARACTERS = 2 << 20
MAX_DEPTH = 100
MAX_REASONS = 20
Place = tuple[str | int, ...]
"""Keys and indices from the file's top to a part."""


@dataclass(kw_only=True)
class Located:
    """A file's values, the line of each part, and what was found wrong with it."""

    path: Path
    value: Any = None
    lines: dict[Place, int] = field(default_factory=dict)
    reasons: list[str] = field(default_factory=list)

    def refuse(self, place: Place, problem: str) -> None:
        """Notes one thing that is wrong."""
        at = place
        while at not in self.lines:
            at = at[:-1]
        self.reasons.append(f"{self.path}, line {self.lines[at]}: {problem}")

    def unknown(self, place: Place, value: Mapping[str, Any], known: Mapping[str, object] | set[str]) -> None:
        """Notes every key that means nothing here."""
        for key in value:
            if key not in known:
                self.refuse((*place, key), f"`{key}` is not supported; known here: {', '.join(sorted(known))}.")

    def check(self) -> None:
        """Raises ``DataError`` with everything that was noted, each thing once."""
        told = list(dict.fromkeys(self.reasons))
        if len(told) > MAX_REASONS:
            told = [*told[:MAX_REASONS], f"… and {len(told) - MAX_REASONS} more in {self.path}."]
        if told:
            raise DataError("\n".join(told))


def read(path: Path, *, only_true_and_false: bool = False) -> Located:
    """The file's values. ``only_true_and_false``: YAML 1.2's booleans, in which ``yes`` and ``no`` are texts.

    What would run code (``!function``, ``!!python/…``) is noted as refused.

    Raises:
        DataError: it is no YAML or JSON, or too large.
    """
    text = of_data(read_text, path)
    if len(text) > MAX_CHARACTERS:
        raise DataError(
            f"{path} has {len(text)} characters; at most {MAX_CHARACTERS} are read. Keep rows in a .jsonl file."
        )
    is_json = path.suffix.lower() == ".json"
    if is_json:
        try:
            json.loads(text)
        except ValueError as error:
            raise DataError(f"{path} is no JSON: {error}.") from None
        except RecursionError:
            raise DataError(f"{path} is nested more than {MAX_DEPTH} deep.") from None
        text = text.replace("\t", " ")  # JSON's strings hold none, and YAML forbids them between values
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except RecursionError:
        raise DataError(f"{path} is nested more than {MAX_DEPTH} deep.") from None
    except yaml.YAMLError as error:
        raise DataError(f"{path} is no YAML: {' '.join(str(error).split())}.") from None
    located = Located(path=path, lines={(): 1})
    if node is not None:
        _Walk(located, is_json, only_true_and_false).value(node, ())
    return located


class _Walk:
    def __init__(self, located: Located, is_json: bool, only_true_and_false: bool) -> None:
        self._located, self._is_json, self._strict = located, is_json, only_true_and_false
        self._scalars = yaml.SafeLoader("")
        self._num_parts = 0

    def value(self, node: yaml.Node, place: Place) -> None:
        self._located.value = self._of(node, place)

    def _of(self, node: yaml.Node, place: Place) -> Any:
        self._num_parts += 1
        if self._num_parts > MAX_PARTS or len(place) > MAX_DEPTH:
            raise DataError(
                f"{self._located.path} has more than {MAX_PARTS} values (aliases counted as what they stand for) or is "
                f"nested more than {MAX_DEPTH} deep."
            )
        self._located.lines[place] = node.start_mark.line + 1
        if node.tag.startswith("!") or node.tag.startswith("tag:yaml.org,2002:python"):
            self._located.refuse(place, f"`{node.tag}` would run code; nothing of a file is run.")
            return None
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, place)
        if isinstance(node, yaml.SequenceNode):
            return [self._of(child, (*place, index)) for index, child in enumerate(node.value)]
        return self._scalar(node)

    def _mapping(self, node: yaml.MappingNode, place: Place) -> dict[str, Any]:
        found: dict[str, Any] = {}
        given: set[str] = set()
        for key_node, value_node in node.value:
            key = _whole_pairs(str(key_node.value))
            if key_node.tag == "tag:yaml.org,2002:merge":
                merged = self._of(value_node, place)
                parts = merged if isinstance(merged, list) else [merged]
                for part in parts:
                    found = {**(part if isinstance(part, dict) else {}), **found}
                continue
            if key in given:
                line = key_node.start_mark.line + 1
                self._located.reasons.append(f"{self._located.path}, line {line}: `{key}` is given twice.")
            given.add(key)
            found[key] = self._of(value_node, (*place, key))
            self._located.lines[*place, key] = key_node.start_mark.line + 1
        return found

    def _scalar(self, node: yaml.ScalarNode) -> Any:
        text: str = node.value
        if node.style is not None:
            return _whole_pairs(text)
        if self._is_json:
            return json.loads(text)
        if self._strict and node.tag == "tag:yaml.org,2002:bool" and text.lower() not in ("true", "false"):
            return text
        if node.tag == "tag:yaml.org,2002:timestamp":
            return text
        try:
            return self._scalars.construct_object(node)
        except (yaml.YAMLError, ValueError):
            return text


def _whole_pairs(text: str) -> str:
    """JSON escapes what lies outside the basic plane as two halves, which YAML keeps apart."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
