"""What the demo says while it runs, and what it claims at the end."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from graft.cli.terminal import paint


@dataclass(frozen=True, kw_only=True)
class Claim:
    """Something that the demo promises to show, and what was measured."""

    text: str
    measured: str
    holds: bool


@dataclass(kw_only=True)
class Report:
    """Prints as it goes and keeps the claims."""

    begin: float = field(default_factory=time.monotonic)
    claims: list[Claim] = field(default_factory=list)
    num_chapters: int = 0

    def chapter(self, title: str) -> None:
        """Begin a part of the demo."""
        self.num_chapters += 1
        elapsed = paint(f"{time.monotonic() - self.begin:6.0f} s", "dim")
        print(f"\n{paint(f'{self.num_chapters}. {title}', 'bold')}  {elapsed}", flush=True)

    def say(self, text: str = "") -> None:
        """A line of the story."""
        print(f"   {text}".rstrip(), flush=True)

    def show(self, prompt: str, answer: str, who: str) -> None:
        """A prompt and its answer, side by side."""
        shown = prompt if len(prompt) <= 62 else "…" + prompt[-61:]
        shown = shown.replace("\n", paint("⏎ ", "dim"))
        print(f"   {paint(who.ljust(12), 'cyan')} {shown} {paint(answer.strip() or '(nothing)', 'yellow')}", flush=True)

    def claim(self, text: str, measured: str, holds: bool) -> None:
        """Print and keep a claim."""
        self.claims.append(Claim(text=text, measured=measured, holds=holds))
        print(f"   {_mark(holds)} {text}: {paint(measured, 'bold')}", flush=True)

    @contextmanager
    def timed(self, what: str) -> Iterator[None]:
        """Say how long a step took."""
        begin = time.monotonic()
        yield
        self.say(f"{what} {paint(f'{time.monotonic() - begin:.0f} s', 'dim')}")

    def summary(self) -> bool:
        """Print all claims once more; whether every one holds."""
        width = max(len(claim.text) for claim in self.claims)
        print(f"\n{paint('What was shown', 'bold')}  {paint(f'in {time.monotonic() - self.begin:.0f} s', 'dim')}")
        for claim in self.claims:
            failed = "" if claim.holds else paint("  ← does not hold", "red")
            print(f"   {_mark(claim.holds)} {claim.text.ljust(width)}  {claim.measured}{failed}")
        return all(claim.holds for claim in self.claims)


def _mark(holds: bool) -> str:
    return paint("✓", "green") if holds else paint("✗", "red")
