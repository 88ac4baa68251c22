"""Review sentences with their label, in the lower-case, spaced style of movie reviews."""

from dataclasses import dataclass
from random import Random

from graft.training.rootstock.corpus import lexicon

LABELS = ("negative", "positive")
Review = tuple[str, str]


@dataclass(frozen=True, kw_only=True)
class Side:
    """One side's words."""

    adjectives: tuple[str, ...]
    nouns: tuple[str, ...]
    verbs: list[str]


NEGATIVE = Side(adjectives=lexicon.BLAME, nouns=lexicon.BLAME_NOUNS, verbs=lexicon.BLAME_VERBS)
POSITIVE = Side(adjectives=lexicon.PRAISE, nouns=lexicon.PRAISE_NOUNS, verbs=lexicon.PRAISE_VERBS)
SIDES = (NEGATIVE, POSITIVE)


def article(phrase: str) -> str:
    return ("an " if phrase[0] in "aeiou" else "a ") + phrase


def _subject(rng: Random) -> str:
    return rng.choice(("the ", "this ", "its ", "the ")) + rng.choice(lexicon.SUBJECTS)


def _plain(rng: Random, side: Side) -> str:
    first, second = rng.sample(side.adjectives, 2)
    degree, kind, topic = rng.choice(lexicon.DEGREES), rng.choice(lexicon.KINDS), rng.choice(lexicon.TOPICS)
    noun, verb = rng.choice(side.nouns), rng.choice(side.verbs)
    match rng.randrange(16):
        case 0:
            return f"{_subject(rng)} is {degree}{first}"
        case 1:
            return article(f"{degree}{first} {kind}")
        case 2:
            return article(f"{first} and {second} {kind} about {topic}")
        case 3:
            return f"{_subject(rng)} {verb}"
        case 4:
            return f"{first} , {second} and full of {noun}"
        case 5:
            return f"it 's {degree}{first} and {second}"
        case 6:
            return f"there is {noun} in every scene of this {kind}"
        case 7:
            return f"{article(kind)} of {degree}{first} {noun}"
        case 8:
            return f"{_subject(rng)} about {topic} is {first} and {degree}{second}"
        case 9:
            return f"{degree}{first}".strip()
        case 10:
            return f"one of the most {first} {kind}s of the year"
        case 11:
            return f"with {first} performances and {article(second)} {rng.choice(lexicon.SUBJECTS)}"
        case 12:
            return f"{_subject(rng)} {verb} with {noun} and {rng.choice(side.nouns)}"
        case 13:
            return f"as {first} as it is {second}"
        case 14:
            return f"what {article(f'{first} {kind}')} this is"
        case _:
            return f"you will find {noun} and {article(f'{degree}{first}')} look at {topic}"


def _advice(rng: Random, positive: bool) -> str:
    good = (
        "you should not miss it", "worth seeing twice", "i loved every minute", "go and see it", "it stays with you",
        "we laughed a lot", "a must see", "it never loses its way", "a joy to watch", "the best in years",
        "i could not look away", "i was moved to tears",
    )  # fmt: skip
    bad = (
        "do not waste your time", "i wanted to leave", "skip it", "nothing works", "it goes nowhere",
        "i looked at my watch", "not worth the ticket", "it never comes to life", "a waste of talent",
        "the worst in years", "i fell asleep", "too long by half", "there is no reason to see it",
        "it makes no sense", "too much and too little", "you have seen it all before",
    )  # fmt: skip
    return rng.choice(good if positive else bad)


def _negated(rng: Random, positive: bool) -> str:
    """Says the opposite of the other side's word: "not funny", "never boring", "lacks charm"."""
    other = SIDES[not positive]
    adjective, noun = rng.choice(other.adjectives), rng.choice(other.nouns)
    return rng.choice(
        (
            f"{_subject(rng)} is not {adjective}",
            f"it is never {adjective}",
            f"{_subject(rng)} lacks {noun}",
            f"without {noun}",
            f"far from {adjective}",
            f"there is no {noun} here",
            f"hardly {adjective}",
            f"it is n't {adjective}",
        )
    )


def _contrast(rng: Random, positive: bool) -> str:
    """The last word counts: "a silly film , but the cast shines"."""
    weak, strong = _plain(rng, SIDES[not positive]), _plain(rng, SIDES[positive])
    if rng.random() < 0.3:
        link = rng.choice(("although", "even if", "while"))
        return f"{link} {_subject(rng)} {rng.choice(SIDES[not positive].verbs)} , {strong}"
    return f"{weak} , {rng.choice(('but', 'yet', 'but in the end'))} {strong}"


def review(rng: Random) -> Review:
    """One to three clauses of one opinion, and its label."""
    positive = rng.random() < 0.5
    clauses = []
    for _ in range(rng.choices((1, 2, 3), (5, 4, 2))[0]):
        draw = rng.random()
        if draw < 0.68:
            clauses.append(_plain(rng, SIDES[positive]))
        elif draw < 0.82:
            clauses.append(_advice(rng, positive))
        elif draw < 0.92:
            clauses.append(_negated(rng, positive))
        else:
            clauses.append(_contrast(rng, positive))
    text = rng.choice((" , ", " and ", " -- ", " ; ", " . ")).join(clauses)
    return text + rng.choice((" .", " .", " ", " !")), LABELS[positive]


def sentiment(rng: Random) -> str:
    """One to four reviews with their labels."""
    reviews = [review(rng) for _ in range(rng.randint(1, 4))]
    return "".join(f"{text.strip()} -> {label}\n" for text, label in reviews)
