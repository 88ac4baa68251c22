"""Documents that show one function of a word by examples, one ``input -> output`` per line."""

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from graft.training.rootstock.corpus.words import VOWELS, invented_word, words

Function = Callable[[str], str]
SEPARATOR = " -> "


@dataclass(frozen=True, kw_only=True)
class Rule:
    """A function to be recognised from examples."""

    name: str
    instruction: str
    """What a person asks for in a chat; ``{word}`` stands for the input. Empty where the function cannot be named
    shortly.
    """
    draw: Callable[[Random], Function]
    """Fixes what varies from document to document, such as the ending to append."""
    weight: float = 1.0


def _fixed(function: Function) -> Callable[[Random], Function]:
    return lambda rng: function


def _affix(rng: Random) -> str:
    return invented_word(rng)[: rng.choice((1, 2, 2, 3))]


def _appending(rng: Random) -> Function:
    affix = _affix(rng)
    return lambda word: word + affix


def _prepending(rng: Random) -> Function:
    affix = _affix(rng)
    return lambda word: affix + word


def _rule(name: str, instruction: str, function: Function, weight: float = 1.0) -> Rule:
    return Rule(name=name, instruction=instruction, draw=_fixed(function), weight=weight)


RULES: tuple[Rule, ...] = (
    _rule("reverse", "Reverse the word {word}.", lambda w: w[::-1], 2.0),
    _rule("first letter", "What is the first letter of {word}?", lambda w: w[0]),
    _rule("last letter", "What is the last letter of {word}?", lambda w: w[-1]),
    _rule("first two letters", "What are the first two letters of {word}?", lambda w: w[:2]),
    _rule("upper case", "Write {word} in upper case.", str.upper),
    _rule("capital", "Write {word} with a capital letter.", str.capitalize),
    _rule("double", "Write {word} twice.", lambda w: w + w),
    _rule("drop first", "Remove the first letter of {word}.", lambda w: w[1:]),
    _rule("drop last", "Remove the last letter of {word}.", lambda w: w[:-1]),
    _rule("swap ends", "Swap the first and last letter of {word}.", lambda w: w[-1] + w[1:-1] + w[0], 1.5),
    _rule("no vowels", "Remove the vowels of {word}.", lambda w: "".join(c for c in w if c not in VOWELS), 1.5),
    _rule("first to end", "Move the first letter of {word} to the end.", lambda w: w[1:] + w[0]),
    _rule("dashes", "Put dashes between the letters of {word}.", "-".join),
    _rule("count", "How many letters does {word} have?", lambda w: str(len(w))),
    _rule("repeat last", "Repeat the last letter of {word}.", lambda w: w + w[-1]),
    _rule("brackets", "Put {word} in brackets.", lambda w: f"({w})"),
    Rule(name="suffix", instruction="", draw=_appending),
    Rule(name="prefix", instruction="", draw=_prepending),
)
"""Eighteen functions. Two of them take a parameter that only the examples reveal."""

_WEIGHTS = [rule.weight for rule in RULES]


def example(word: str, function: Function) -> str:
    return f"{word}{SEPARATOR}{function(word)}\n"


def prompt(rule: Rule, rng: Random, *, num_examples: int) -> tuple[str, str]:
    """A held-out question: ``num_examples`` lines, the open line of a held-out word, and the line's right ending."""
    function = rule.draw(rng)
    shown = words(rng, num_examples)
    (asked,) = words(rng, 1, held_out=True)
    return "".join(example(word, function) for word in shown) + asked + SEPARATOR.rstrip(), function(asked)


def draw_rule(rng: Random) -> Rule:
    return rng.choices(RULES, _WEIGHTS)[0]


def rules(rng: Random) -> str:
    """One function, three to nine examples."""
    function = draw_rule(rng).draw(rng)
    return "".join(example(word, function) for word in words(rng, rng.randint(3, 9)))
