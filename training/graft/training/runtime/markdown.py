"""Tables for people, in Markdown."""

from collections.abc import Iterable, Sequence


def table(head: str, rows: Iterable[Sequence[object]]) -> str:
    """``head`` names the columns, with bars between them."""
    rule = "|" + " --- |" * (head.count("|") + 1)
    return "\n".join([f"| {head} |", rule, *("| " + " | ".join(map(str, row)) + " |" for row in rows)])
