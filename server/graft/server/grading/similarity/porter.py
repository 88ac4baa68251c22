"""The stem of an English word: Porter 1980, "An algorithm for suffix stripping", with the author's later departures.

https://tartarus.org/martin/PorterStemmer: words of one or two letters stay, `logi` → `log`, `bli` → `ble`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache

# A vowel; y is one behind a consonant.
_CONSONANT = r"(?:[^aeiouy]|(?<![^aeiou])y)"
_VOWEL = r"(?:[aeiou]|(?<=[^aeiou])y)"
_HAS_VOWEL = re.compile(_VOWEL)
_MEASURE = re.compile(f"{_VOWEL}+{_CONSONANT}+")
_DOUBLE = re.compile(r"([^aeiouy])\1$")
# Consonant, vowel, consonant; the last one not w, x or y.
_SHORT = re.compile(rf"(?:^|.){_CONSONANT}{_VOWEL}[^aeiouwxy]$")

_STEP_2 = (
    ("ational", "ate"), ("tional", "tion"), ("enci", "ence"), ("anci", "ance"), ("izer", "ize"), ("bli", "ble"),
    ("alli", "al"), ("entli", "ent"), ("eli", "e"), ("ousli", "ous"), ("ization", "ize"), ("ation", "ate"),
    ("ator", "ate"), ("alism", "al"), ("iveness", "ive"), ("fulness", "ful"), ("ousness", "ous"), ("aliti", "al"),
    ("iviti", "ive"), ("biliti", "ble"), ("logi", "log"),
)  # fmt: skip
_STEP_3 = (
    ("icate", "ic"), ("ative", ""), ("alize", "al"), ("iciti", "ic"), ("ical", "ic"), ("ful", ""), ("ness", ""),
)  # fmt: skip
_STEP_4 = (
    "al", "ance", "ence", "er", "ic", "able", "ible", "ant", "ement", "ment", "ent", "sion", "tion", "ou", "ism", "ate",
    "iti", "ous", "ive", "ize",
)  # fmt: skip


@lru_cache(maxsize=65_536)
def stem(word: str) -> str:
    """The stem of a word in lower case."""
    if len(word) <= 2:
        return word
    for step in (_plural, _past, _y_to_i, _suffixes(_STEP_2), _suffixes(_STEP_3), _ending, _last):
        word = step(word)
    return word


def _measure(part: str) -> int:
    """How often vowels are followed by consonants: m of [C](VC)^m[V]."""
    return len(_MEASURE.findall(part))


def _plural(word: str) -> str:
    for suffix, instead in (("sses", "ss"), ("ies", "i"), ("ss", "ss"), ("s", "")):
        if word.endswith(suffix):
            return word.removesuffix(suffix) + instead
    return word


def _past(word: str) -> str:
    if word.endswith("eed"):
        return word[:-1] if _measure(word[:-3]) > 0 else word
    for suffix in ("ed", "ing"):
        if word.endswith(suffix):
            rest = word.removesuffix(suffix)
            return _mended(rest) if _HAS_VOWEL.search(rest) else word
    return word


def _mended(rest: str) -> str:
    """What is left without `ed` or `ing`, as a word."""
    if rest.endswith(("at", "bl", "iz")):
        return rest + "e"
    if _DOUBLE.search(rest) and not rest.endswith(("l", "s", "z")):
        return rest[:-1]
    return rest + "e" if _measure(rest) == 1 and _SHORT.search(rest) else rest


def _y_to_i(word: str) -> str:
    return word[:-1] + "i" if word.endswith("y") and _HAS_VOWEL.search(word[:-1]) else word


def _suffixes(pairs: tuple[tuple[str, str], ...]) -> Callable[[str], str]:
    longest_first = sorted(pairs, key=lambda pair: -len(pair[0]))

    def replaced(word: str) -> str:
        for suffix, instead in longest_first:
            if word.endswith(suffix):
                rest = word.removesuffix(suffix)
                return rest + instead if _measure(rest) > 0 else word
        return word

    return replaced


def _ending(word: str) -> str:
    for suffix in sorted(_STEP_4, key=len, reverse=True):
        if word.endswith(suffix):
            # Of `sion` and `tion`, `ion` is taken off.
            rest = word.removesuffix(suffix[-3:] if suffix in ("sion", "tion") else suffix)
            return rest if _measure(rest) > 1 else word
    return word


def _last(word: str) -> str:
    if word.endswith("e"):
        rest = word[:-1]
        if _measure(rest) > 1 or (_measure(rest) == 1 and not _SHORT.search(rest)):
            word = rest
    return word[:-1] if word.endswith("ll") and _measure(word) > 1 else word
