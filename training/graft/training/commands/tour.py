"""``graft tour prompting``: what the lectures on prompting say, measured on the shipped base."""

import argparse
import contextlib
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from graft.training.commands.arguments.server import add_server_argument, add_token_argument
from graft.training.errors import ConfigurationError, NotWritten

HELP = "what prompting can do and cannot, shown and measured on a server"


def configure(parser: argparse.ArgumentParser) -> None:
    tours = parser.add_subparsers(dest="tour", required=True, metavar="TOUR")
    one = tours.add_parser(
        "prompting", help="examples, reasoning, votes, calibration, citations: claims and whether they hold"
    )
    add_server_argument(one, default=None, told="one is started for the tour")
    add_token_argument(one)
    one.add_argument("--chapter", action="append", metavar="NAME", help="only this one (may be repeated)", default=[])
    one.add_argument("--questions", type=_count, default=80, help="of each setting (default: %(default)s)")
    one.add_argument("--seed", type=int, default=0, help="of questions, sampling and intervals (default: %(default)s)")
    one.add_argument("--html", type=Path, metavar="FILE", help="write the report, one page")
    one.add_argument("--json", type=Path, metavar="FILE", help="write every figure and claim")


def run(args: argparse.Namespace) -> int:
    """0 whatever claims hold: one that does not is a finding. Chapters that ended are written in any case."""
    from graft.training.tour.ending import ended_by_sigterm
    from graft.training.tour.tour import chosen, found

    tour = _Tour(names=chosen(args.chapter))
    for path in filter(None, (args.html, args.json)):
        _check_file(path)
    with ended_by_sigterm():
        try:
            _walk(args, tour)
        except BaseException:
            if tour.chapters:
                _tell_of_broken_off(tour, _write(args, tour))
            raise
    result = found(tour.chapters)
    print(f"{result['claims_held']['value']:.0f} of {result['claims']['value']:.0f} claims held on {tour.base}.")
    if problems := _write(args, tour):
        raise NotWritten("\n".join(map(str, problems)))
    return 0


@dataclass
class _Tour:
    """How far it is."""

    names: list[str]
    base: str = ""
    chapters: list[Any] = field(default_factory=list)

    @property
    def missing(self) -> list[str]:
        return self.names[len(self.chapters) :]


def _walk(args: argparse.Namespace, tour: _Tour) -> None:
    """Each chapter is printed once it is measured."""
    from graft.training.evaluation.asking.connection import connected
    from graft.training.tour.classroom import Classroom
    from graft.training.tour.server import served
    from graft.training.tour.text import chapter_text
    from graft.training.tour.tour import walk

    with contextlib.ExitStack() as stack:
        target = args.server or stack.enter_context(served())
        client = stack.enter_context(connected(target, token=args.token))
        tour.base = client.info().base.name
        room = stack.enter_context(Classroom(client, num_questions=args.questions, seed=args.seed))
        for chapter in walk(room, tour.names):
            tour.chapters.append(chapter)
            print(chapter_text(len(tour.chapters), chapter), end="\n\n", flush=True)


def _write(args: argparse.Namespace, tour: _Tour) -> list[OSError]:
    from graft.training.tour.files import write

    return write(tour.chapters, base=tour.base, missing=tour.missing, page=args.html, figures=args.json)


def _tell_of_broken_off(tour: _Tour, problems: list[OSError]) -> None:
    from graft.training.tour.progress import tell

    tell(f"The tour broke off after {len(tour.chapters)} of {len(tour.names)}; missing: {', '.join(tour.missing)}.")
    for problem in problems:
        tell(str(problem))


def _check_file(path: Path) -> None:
    """Before minutes are spent on it."""
    if not path.parent.is_dir():
        raise ConfigurationError(f"{path}: there is no folder {path.parent}.")
    is_special = path.exists() and not path.is_file()
    if path.is_dir() or not os.access(path if is_special else path.parent, os.W_OK):
        raise ConfigurationError(f"{path} cannot be written.")


def _count(text: str) -> int:
    if not text.isdigit() or not 5 <= int(text) <= 10_000:
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 5 to 10000")
    return int(text)
