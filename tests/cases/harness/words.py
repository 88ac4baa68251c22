"""What no error that a user can cause may say, whichever front says it."""

from __future__ import annotations

import re

_FORBIDDEN = {
    "a traceback": r"Traceback \(most recent call last\)|^  File \"",
    "an exception's name": r"\b[A-Z]\w*(Error|Exception)\b",
    "a class": r"<class |\bobject at 0x[0-9a-f]+|\b(graft|vllm|torch|transformers)\.[a-z_.]+\.[A-Z]\w+",
    "a file of C++": r"\.(cpp|cc|hpp|cu)\b|/csrc/",
    "a page about a library": r"pydantic|https://errors\.",
    "a dump of a value": r"\w+\(\w+=[^()]*, \w+=",
}
_DIGEST = re.compile(r"sha256:[0-9a-f]{40,}")


def faults_of(message: str, *, names_digest: bool = False) -> list[str]:
    """What is wrong with a message's words. `names_digest`: the caller asked by digest, so one may be said."""
    found = [f"{what}: {match[0]!r}" for what, rule in _FORBIDDEN.items() if (match := re.search(rule, message, re.M))]
    if not names_digest and (match := _DIGEST.search(message)):
        found.append(f"a digest in place of a name: {match[0][:20]}…")
    return found
