"""Rows in every format that is read, and the files they lie in."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import pyarrow
import pytest
from pyarrow import feather, ipc, parquet

from graft.adapters.text.problems import BadLine
from graft.training.batch.rows.formats import row_of
from graft.training.batch.rows.reading import read_rows
from graft.training.batch.rows.row import Completion, Conversation, Document, Instruction, Row, Turn
from graft.training.errors import DataError

CALL = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Oslo"}'}}
TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}, "strict": True}}


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def talk(*messages: dict[str, Any], **more: Any) -> Conversation:
    row = row_of({"messages": [user("q"), *messages], **more})
    assert isinstance(row, Conversation)
    return row


def test_every_format_by_its_keys() -> None:
    assert row_of({"text": "a", "messages": None}) == Document(text="a")
    assert row_of({"prompt": "a", "completion": "b"}) == Completion(prompt="a", completion="b")
    alpaca = {"instruction": "i", "input": "n", "output": "o", "text": "Below is …"}
    assert row_of(alpaca) == Instruction(instruction="i", input="n", output="o")
    asked = Turn(role="user", content="q", is_learned=False)
    said = Turn(role="assistant", content="a", is_learned=True)
    told = Turn(role="system", content="s", is_learned=False)
    shared = [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]
    assert row_of({"conversations": shared, "system": "s"}) == Conversation(turns=(told, asked, said))
    assert row_of({"conversations": [user("q"), {"role": "assistant", "content": "a"}]}) == talk(
        {"role": "assistant", "content": "a"}
    )
    earlier = [user("p"), {"role": "assistant", "content": "not learned"}, user("q")]
    both = row_of({"prompt": earlier, "completion": [{"role": "assistant", "content": "a"}]})
    assert isinstance(both, Conversation)
    assert [turn.is_learned for turn in both.turns] == [False, False, False, True]


def test_openais_messages() -> None:
    row = talk(
        {"role": "developer", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
        {"role": "assistant", "content": None, "tool_calls": [CALL], "weight": 0, "refusal": None},
        {"role": "tool", "tool_call_id": "c1", "content": "rain"},
        {"role": "assistant", "content": "Rain.", "reasoning_content": "It says so.", "name": "bot"},
        {"role": "assistant", "refusal": "I may not."},
        tools=[TOOL],
        parallel_tool_calls=False,
    )
    _, system, called, result, said, refused = row.turns
    assert (system.role, system.content) == ("system", "a\nb")
    assert called.calls[0]["function"]["arguments"] == {"city": "Oslo"} and not called.is_learned
    assert result.message == {"role": "tool", "tool_call_id": "c1", "name": "weather", "content": "rain"}
    assert (said.reasoning, said.name) == ("It says so.", "bot")
    assert refused.content == "I may not." and refused.is_learned
    assert row.tools == ({"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}},)


def test_shared_calls_and_observations() -> None:
    made = {"name": "weather", "arguments": {"city": "Oslo"}}
    row = row_of(
        {
            "conversations": [
                {"from": "human", "value": "q"},
                {"from": "function_call", "value": json.dumps([made, made])},
                {"from": "observation", "value": "rain"},
                {"from": "tool", "value": "sun"},
                {"from": "gpt", "value": "Both.", "weight": 0},
            ],
            "tools": json.dumps([{"name": "weather", "description": "Tells it.", "parameters": {}}]),
        }
    )
    assert isinstance(row, Conversation)
    ids = [call["id"] for call in row.turns[1].calls]
    assert [turn.call_id for turn in row.turns[2:4]] == ids and all(len(one) == 9 for one in ids)
    assert [turn.is_learned for turn in row.turns] == [False, True, False, False, False]
    assert row.tools[0]["function"]["parameters"]["type"] == "object"


ANSWER = {"role": "assistant", "content": "a"}


@pytest.mark.parametrize(
    ("row", "wrong"),
    [
        ({"messages": [user("q"), {**ANSWER, "function_call": {}}]}, "function_call: give tool_calls"),
        ({"messages": [user("q"), {**ANSWER, "tool_calls": [{"function": {}}]}]}, "call 1 names no function"),
        (
            {"messages": [user("q"), {**ANSWER, "tool_calls": [{"function": {"name": "f", "arguments": "{"}}]}]},
            "arguments: broken JSON",
        ),
        ({"messages": [user("q"), {"role": "tool", "content": "x"}, ANSWER]}, "message 2 is the result of no call"),
        ({"messages": [user("q"), {"role": "tool", "tool_call_id": "z", "content": "x"}]}, "the id of no call"),
        ({"messages": [user("q"), {**ANSWER, "reasoning": "a", "thinking": "b"}]}, "its reasoning twice"),
        ({"messages": [user("q"), {**ANSWER, "refusal": "no"}]}, "content and a refusal"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}, ANSWER]}, "only text is learned"),
        ({"messages": [user("q"), ANSWER], "functions": []}, "unknown key 'functions'"),
        ({"messages": [user("q"), ANSWER], "tools": [{"type": "retrieval"}]}, "only functions are called"),
        ({"messages": [user("q"), ANSWER], "tools": "{"}, "tools: broken JSON"),
        ({"conversations": [{"from": "robot", "value": "x"}]}, "from 'robot'"),
        ({"instruction": "i"}, "output is missing"),
        ({"text": " "}, "text is empty"),
        ({"prompt": [user("q")]}, "completion messages must be a list"),
    ],
)
def test_what_is_wrong_with_a_row(row: dict[str, Any], wrong: str) -> None:
    with pytest.raises(BadLine, match=wrong):
        row_of(row)


ROWS: list[dict[str, Any]] = [
    {"messages": [user("q"), {"role": "assistant", "content": "a", "weight": 1}]},
    {"messages": [user("q"), {"role": "assistant", "content": None, "tool_calls": [CALL]}], "tools": [TOOL]},
]
TABLE = [{"tools": None, **row} for row in ROWS]


def _arrow(path: Path, table: pyarrow.Table) -> None:
    with ipc.new_file(str(path), table.schema) as file:
        file.write_table(table)


def _stream(path: Path, table: pyarrow.Table) -> None:
    with ipc.new_stream(str(path), table.schema) as file:
        file.write_table(table)


WRITERS: dict[str, tuple[str, Callable[[Path, pyarrow.Table], Any]]] = {
    "parquet": ("rows.parquet", lambda path, table: parquet.write_table(table, path)),
    "arrow file": ("rows.arrow", _arrow),
    "arrow stream": ("data-00000.arrow", _stream),
    "feather": ("rows.feather", lambda path, table: feather.write_feather(table, str(path))),
    "json lines": ("rows.jsonl", lambda path, _: path.write_text("\n".join(map(json.dumps, ROWS)))),
    "json array": ("rows.json", lambda path, _: path.write_text(json.dumps(ROWS, indent=1))),
    "gzip": (
        "rows.jsonl.gz",
        lambda path, _: path.write_bytes(gzip.compress("\n".join(map(json.dumps, ROWS)).encode())),
    ),
}


def read(path: Path) -> list[Row]:
    return [row for _, row in read_rows(path, lambda row: row).usable()]


@pytest.mark.parametrize("kind", WRITERS)
def test_the_same_rows_out_of_every_kind_of_file(kind: str, tmp_path: Path) -> None:
    """A table's null, which stands for what another row has, is absence."""
    name, write = WRITERS[kind]
    write(tmp_path / name, pyarrow.Table.from_pylist(TABLE))
    assert read(tmp_path / name) == [row_of(row) for row in ROWS]


def test_what_the_library_datasets_writes_is_read(tmp_path: Path) -> None:
    made = datasets.Dataset.from_list(TABLE)
    made.to_parquet(tmp_path / "rows.parquet")
    made.save_to_disk(tmp_path / "saved")
    assert read(tmp_path / "rows.parquet") == [row_of(row) for row in ROWS]
    assert read(tmp_path / "saved" / "data-00000-of-00001.arrow") == [row_of(row) for row in ROWS]


def test_a_tables_bad_rows_are_numbered_and_columns_that_nobody_reads_are_told(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    columns = {"prompt": ["a", "b", "c"], "completion": ["x", " ", None], "id": [1, 2, 3]}
    parquet.write_table(pyarrow.table(columns), path)
    found = read_rows(path, lambda row: row)
    assert found.unread == ("id",)
    with pytest.raises(DataError) as caught:
        found.usable()
    first, second = str(caught.value).splitlines()
    assert f"{path}, row 2: completion is empty" in first and f"{path}, row 3: completion is missing" in second


@pytest.mark.parametrize("name", ["rows.parquet", "rows.arrow"])
def test_a_table_that_is_none_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        read(tmp_path / name)
    (tmp_path / name).write_bytes(b"no table at all, but long enough for a footer")
    with pytest.raises(DataError, match="file that can be read"):
        read(tmp_path / name)


def test_other_names_of_columns(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"question": "2+3?", "answer": "5", "id": 7}\n{"question": "2+4?"}\n')
    found = read_rows(path, lambda row: row, columns={"prompt": "question", "completion": "answer"})
    assert found.found == [(1, Completion(prompt="2+3?", completion="5"))]
    assert found.refused == [(2, "it has no 'answer', which columns names; it has question.")]
