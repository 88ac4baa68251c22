"""Conversations in the chat template: every skill of the other documents, asked for in words."""

from collections.abc import Sequence
from random import Random

from graft.training.corpus.chat_template import IM_END, IM_START
from graft.training.rootstock.corpus import arithmetic, rules
from graft.training.rootstock.corpus.dates import FORMATS, random_date
from graft.training.rootstock.corpus.questions import Exchange, exchange
from graft.training.rootstock.corpus.sentiment import review
from graft.training.rootstock.corpus.words import word, words

_NAMED_RULES = [rule for rule in rules.RULES if rule.instruction]


def render(exchanges: Sequence[Exchange]) -> str:
    """The text that the tokenizer's chat template makes of alternating user and assistant turns."""
    return "".join(
        f"{IM_START}user\n{asked}{IM_END}\n{IM_START}assistant\n{answered}{IM_END}\n" for asked, answered in exchanges
    )


def _addition(rng: Random) -> Exchange:
    a, b = arithmetic.operands(rng, rng.choice((1, 2, 2, 3, 3, 3)))
    return f"What is {a}+{b}? Think step by step.", arithmetic.worked(a, b)


def _rule(rng: Random) -> Exchange:
    rule, asked = rng.choice(_NAMED_RULES), word(rng)
    return rule.instruction.format(word=asked), rule.draw(rng)(asked)


def _examples(rng: Random) -> Exchange:
    function = rules.draw_rule(rng).draw(rng)
    *shown, asked = words(rng, rng.randint(3, 7))
    lines = "".join(rules.example(each, function) for each in shown)
    return f"{lines}{asked}{rules.SEPARATOR.rstrip()}", function(asked)


def _date(rng: Random) -> Exchange:
    day, source = random_date(rng), rng.choice(list(FORMATS.values()))
    target = rng.choice(list(FORMATS.values()))
    example_day = random_date(rng)
    return f"Write {source(day)} like {target(example_day)}.", target(day)


def _sentiment(rng: Random) -> Exchange:
    text, label = review(rng)
    return f"Is this review positive or negative? {text.strip()}", label


_SKILLS = {_addition: 5, _rule: 4, _examples: 4, _date: 2, _sentiment: 3, exchange: 2}


def chat(rng: Random) -> str:
    """One to three exchanges."""
    skills = rng.choices(list(_SKILLS), list(_SKILLS.values()), k=rng.choice((1, 1, 2, 3)))
    return render([skill(rng) for skill in skills])
