"""Questions with short answers, about words, numbers and a few everyday facts."""
# ruff: noqa: SIM905 - a page of words reads better as one text

from random import Random

from graft.training.rootstock.corpus.arithmetic import operands
from graft.training.rootstock.corpus.words import word

OPPOSITES = dict(
    pair.split("/")
    for pair in """
    hot/cold big/small fast/slow old/new wet/dry light/dark high/low open/closed happy/sad early/late near/far
    full/empty long/short hard/soft clean/dirty loud/quiet strong/weak thick/thin rich/poor right/wrong up/down in/out
    day/night first/last true/false young/old good/bad warm/cool safe/dangerous deep/shallow wide/narrow sharp/dull
    """.split()
)
COLORS = dict(
    pair.split("/")
    for pair in """
    grass/green snow/white coal/black blood/red lemon/yellow sky/blue milk/white carrot/orange leaf/green
    """.split()
)
HOMES = dict(
    pair.split("/")
    for pair in "bird/nest fish/water bee/hive fox/den horse/stable dog/kennel bear/cave spider/web".split()
)
KNOWN = (
    ("What is the opposite of {}?", OPPOSITES), ("What color is {}?", COLORS), ("Where does a {} live?", HOMES)
)  # fmt: skip
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")

Exchange = tuple[str, str]


def exchange(rng: Random) -> Exchange:
    """A question and its answer."""
    match rng.randrange(7):
        case 0 | 1 | 2 as kind:
            text, answers = KNOWN[kind]
            key = rng.choice(list(answers))
            return text.format(key), answers[key]
        case 3:
            index = rng.randrange(7)
            return f"Which day comes after {DAYS[index]}?", DAYS[(index + 1) % 7]
        case 4:
            a, b = operands(rng, rng.choice((1, 1, 2)))
            return f"What is {a}+{b}?", str(a + b)
        case 5:
            asked = word(rng)
            return f"Which letter does {asked} begin with?", asked[0]
        case _:
            asked = word(rng)
            return f"How many letters does {asked} have?", str(len(asked))


def questions(rng: Random) -> str:
    """One to five exchanges."""
    pairs = [exchange(rng) for _ in range(rng.randint(1, 5))]
    return "".join(f"Q: {question}\nA: {answer}\n" for question, answer in pairs)
