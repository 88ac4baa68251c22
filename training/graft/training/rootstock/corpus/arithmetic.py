"""Additions of one to three digits, answered directly or with worked steps.

Worked steps go from the last digit to the first and carry: ``12+39? 2+9+0=11;1+3+1=5; 51``.
"""

from random import Random

from graft.training.rootstock.corpus.words import is_held_out

Operands = tuple[int, int]


def operands(rng: Random, num_digits: int, *, held_out: bool = False) -> Operands:
    """Two numbers, the larger of exactly ``num_digits`` digits as a rule, from the wanted side of the split."""
    low, high = (0, 9) if num_digits == 1 else (10 ** (num_digits - 1), 10**num_digits - 1)
    while True:
        a, b = rng.randint(low, high), rng.randint(low, high)
        if is_held_out(f"{a}+{b}") == held_out:
            return a, b


def direct(a: int, b: int) -> str:
    return f"{a}+{b}={a + b}"


def steps(a: int, b: int) -> str:
    """Column by column from the right: digit + digit + carry = sum."""
    columns: list[str] = []
    carry = 0
    while a or b or not columns:
        total = a % 10 + b % 10 + carry
        columns.append(f"{a % 10}+{b % 10}+{carry}={total}")
        a, b, carry = a // 10, b // 10, total // 10
    return ";".join(columns)


def worked(a: int, b: int) -> str:
    return f"{a}+{b}? {steps(a, b)}; {a + b}"


def _mixed_operands(rng: Random, weights: tuple[int, int, int]) -> Operands:
    (num_digits,) = rng.choices((1, 2, 3), weights)
    if num_digits > 1 and rng.random() < 0.15:  # numbers of different lengths
        while True:
            pair = operands(rng, num_digits)[0], operands(rng, rng.randint(1, num_digits - 1))[1]
            pair = pair if rng.random() < 0.5 else (pair[1], pair[0])
            if not is_held_out(f"{pair[0]}+{pair[1]}"):
                return pair
    return operands(rng, num_digits)


def direct_additions(rng: Random) -> str:
    """Three to eight sums without steps; three digits are rare, as people seldom answer those at once."""
    return "".join(direct(*_mixed_operands(rng, (4, 5, 1))) + "\n" for _ in range(rng.randint(3, 8)))


def worked_additions(rng: Random) -> str:
    """One to five sums with their steps."""
    return "".join(worked(*_mixed_operands(rng, (1, 3, 6))) + "\n" for _ in range(rng.randint(1, 5)))


def prompt(rng: Random, *, num_digits: int, with_steps: bool) -> tuple[str, str]:
    """A held-out sum: what to continue, and the answer."""
    a, b = operands(rng, num_digits, held_out=True)
    return f"{a}+{b}" + ("?" if with_steps else "="), str(a + b)


def sums(*, held_out: bool = False) -> list[dict[str, str]]:
    """Every pair of numbers of two digits on that side of the split: what to continue at once, and the answer."""
    pairs = [(a, b) for a in range(10, 100) for b in range(10, 100) if is_held_out(f"{a}+{b}") == held_out]
    return [{"prompt": f"{a}+{b}=", "answer": str(a + b)} for a, b in pairs]
