"""What a schema is read as, against the JSON Schema organisation's own tests (Debian's `json-schema-test-suite`)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from graft.server.engine.schema.json_schema import JsonSchema
from graft.server.engine.schema.reading.document import Document
from graft.server.engine.schema.reading.membership import fits
from graft.server.engine.schema.reading.reading import Circular, Reader
from graft.server.engine.schema.refusal import SchemaRefused

SUITE = Path("/usr/share/json-schema-test-suite/tests")
# Notes to people in every draft, whatever these tests make of them.
NOTES = ("content.json",)


def cases(draft: str) -> Iterator[tuple[str, Any, list[dict[str, Any]]]]:
    dialect = f"http://json-schema.org/{draft.replace('draft', 'draft-0')}/schema#"
    for path in sorted((SUITE / draft).rglob("*.json")):
        for group in json.loads(path.read_text()) if path.name not in NOTES else ():
            schema = group["schema"]
            schema = {"$schema": dialect, **schema} if isinstance(schema, dict) else schema
            yield f"{path.parent.name}/{path.stem}: {group['description']}", schema, group["tests"]


@pytest.mark.parametrize("draft", ["draft6", "draft7"])
def test_the_suite(draft: str) -> None:
    if not SUITE.exists():
        pytest.skip(f"Debian's json-schema-test-suite is not installed: no {SUITE}")
    wrong, num_read, num_cases = [], 0, 0
    for name, schema, tests in cases(draft):
        num_cases += 1
        try:
            reader = Reader(Document(schema))
            found = [fits(reader, reader.root, test["data"]) for test in tests]
        except (SchemaRefused, Circular):
            continue
        num_read += 1
        wrong += [
            (name, test["description"])
            for test, right in zip(tests, found, strict=True)
            if right is not test["valid"] and not ("format" in name and right is False)
        ]
    print(f"{draft}: {num_read} of {num_cases} schemas are read")
    assert wrong == []
    assert num_read >= 0.85 * num_cases


@pytest.mark.parametrize("draft", ["draft6", "draft7"])
def test_the_suite_is_written(draft: str) -> None:
    """Refused of it: references elsewhere, the format `regex`, items of any kind that differ."""
    if not SUITE.exists():
        pytest.skip(f"Debian's json-schema-test-suite is not installed: no {SUITE}")
    reasons: dict[str, str] = {}
    num_cases = 0
    for name, schema, tests in cases(draft):
        if not any(test["valid"] for test in tests):
            continue
        num_cases += 1
        try:
            JsonSchema(schema).grammar(120)
        except SchemaRefused as error:
            reasons[name] = str(error)
    print(f"{draft}: {num_cases - len(reasons)} of {num_cases} schemas are written")
    known = ("points to nothing", "`format` is not enforced", "`uniqueItems` is not enforced")
    assert [reason for reason in reasons.values() if not any(one in reason for one in known)] == []
    assert num_cases - len(reasons) >= 0.85 * num_cases
