"""Dates in several formats, and rewriting one format into another shown by examples."""

import datetime
from collections.abc import Callable
from random import Random

MONTHS = (
    "January", "February", "March", "April", "May", "June",
    "July", "August", "September", "October", "November", "December",
)  # fmt: skip
Format = Callable[[datetime.date], str]

FORMATS: dict[str, Format] = {
    "iso": lambda day: day.isoformat(),
    "us": lambda day: f"{day.month:02}/{day.day:02}/{day.year}",
    "european": lambda day: f"{day.day:02}.{day.month:02}.{day.year}",
    "long": lambda day: f"{MONTHS[day.month - 1]} {day.day}, {day.year}",
    "british": lambda day: f"{day.day} {MONTHS[day.month - 1]} {day.year}",
    "short": lambda day: f"{day.day} {MONTHS[day.month - 1][:3]} {day.year}",
}


def random_date(rng: Random) -> datetime.date:
    return datetime.date(1950, 1, 1) + datetime.timedelta(days=rng.randrange(365 * 90))


def dates(rng: Random) -> str:
    """Two to six examples of one conversion."""
    source, target = rng.sample(list(FORMATS.values()), 2)
    days = [random_date(rng) for _ in range(rng.randint(2, 6))]
    return "".join(f"{source(day)} -> {target(day)}\n" for day in days)
