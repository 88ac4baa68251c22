"""What is remembered of callers' texts: short ones only."""

from __future__ import annotations

from graft.server.engine.schema.patterns.remembering import remembered


def test_long_texts_are_worked_out_anew() -> None:
    asked: list[tuple[str, ...]] = []

    @remembered(maxsize=8)
    def length(*texts: str) -> int:
        asked.append(texts)
        return sum(map(len, texts))

    long = "x" * 300
    for texts in (("a", "b"), ("a", "b"), (long, "b"), (long, "b")):
        assert length(*texts) == len("".join(texts))
    assert asked == [("a", "b"), (long, "b"), (long, "b")]
