"""A document of a corpus."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Document:
    """A piece of text that is learned as a whole: nothing before it is seen, an end token follows it."""

    kind: str
    text: str
