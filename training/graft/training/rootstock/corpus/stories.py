"""Short narrative prose in plain sentences: somebody wants something, meets an obstacle, finds a way."""
# ruff: noqa: SIM905 - a page of words reads better as one text

from random import Random

from graft.training.rootstock.corpus.sentiment import article

NAMES = "Anna Ben Clara David Emma Finn Grace Hugo Iris Jack Kate Leo Mia Noah Olga Paul Rosa Sam Tess Victor".split()
PLACES = (
    "in a small village by the sea", "at the edge of the forest", "on a quiet farm", "in a tall house near the river",
    "in the old town", "high up in the mountains", "next to the harbor", "behind the market",
)  # fmt: skip
THINGS = "lantern kite boat map key book bell basket drum violin puppy kitten clock coat letter".split()
ADJECTIVES = "small old red bright silver broken lost warm golden little blue wooden".split()
FRIENDS = "brother sister neighbor teacher grandmother uncle friend father mother".split()
TROUBLES = (
    "But the wind carried it away.", "But it fell into the water.", "But the door was locked.", "But it began to rain.",
    "But nobody knew where it was.", "But the road was too long.", "But it was too heavy to carry alone.",
)  # fmt: skip
EFFORTS = (
    "looked under every stone", "walked all day", "asked everyone in town", "climbed the highest hill",
    "waited until the evening", "built a bridge of branches", "followed the footprints in the snow",
    "searched the whole house",
)  # fmt: skip
ENDINGS = (
    "That night everyone slept well.", "They laughed all the way home.", "It was the best day of the year.",
    "From then on they were never apart.", "And so the story ends.", "They never forgot that morning.",
)  # fmt: skip
TIMES = ("One morning", "One evening", "Last summer", "On a cold winter day", "Long ago", "One day", "In spring")


def stories(rng: Random) -> str:
    """Five to eight sentences about one person, one thing and one friend."""
    name, thing, adjective, friend = rng.choice(NAMES), rng.choice(THINGS), rng.choice(ADJECTIVES), rng.choice(FRIENDS)
    object_ = article(f"{adjective} {thing}")
    sentences = [
        f"{name} lived {rng.choice(PLACES)}.",
        f"{rng.choice(TIMES)}, {name} found {object_}." if rng.random() < 0.5 else f"{name} had {object_}.",
        f"{name} wanted to show the {thing} to a {friend}.",
        rng.choice(TROUBLES),
        f"So {name} {rng.choice(EFFORTS)}.",
    ]
    if rng.random() < 0.5:
        sentences.append(f'"Do not give up," said the {friend}. "We will do it together."')
    sentences.append(f"At last {name} and the {friend} stood before the {adjective} {thing}.")
    sentences.append(rng.choice(ENDINGS))
    return " ".join(sentences) + "\n"
