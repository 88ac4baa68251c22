"""``graft tour prompting``: what the lectures on prompting say, measured on the shipped base."""

import argparse
import contextlib
import json
import os
from pathlib import Path
from typing import Any

HELP = "what prompting can do and cannot, shown and measured on a server"


def configure(parser: argparse.ArgumentParser) -> None:
    tours = parser.add_subparsers(dest="tour", required=True, metavar="TOUR")
    one = tours.add_parser(
        "prompting", help="examples, reasoning, votes, calibration, citations: claims and whether they hold"
    )
    one.add_argument("--server", metavar="HOST:PORT", help="a running server (default: one is started for the tour)")
    one.add_argument("--chapter", action="append", metavar="NAME", help="only this one (may be repeated)", default=[])
    one.add_argument("--questions", type=_count, default=80, help="of each setting (default: %(default)s)")
    one.add_argument("--seed", type=int, default=0, help="of questions, sampling and intervals (default: %(default)s)")
    one.add_argument("--html", type=Path, metavar="FILE", help="write the report, one page")
    one.add_argument("--json", type=Path, metavar="FILE", help="write every figure and claim")


def run(args: argparse.Namespace) -> int:
    """0 whatever claims hold: one that does not is a finding."""
    from graft.training.tour.report import html
    from graft.training.tour.tour import chosen, found

    names = chosen(args.chapter)
    for path in filter(None, (args.html, args.json)):
        _check_file(path)
    base, chapters = _walked(args, names)
    result = found(chapters)
    print(f"{result['claims_held']['value']:.0f} of {result['claims']['value']:.0f} claims held on {base}.")
    if args.html:
        args.html.write_text(html(chapters, base=base), encoding="utf-8")
    if args.json:
        args.json.write_text(json.dumps(result, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
    return 0


def _walked(args: argparse.Namespace, names: list[str]) -> tuple[str, list[Any]]:
    """The base's name, and the chapters, each printed once it is measured."""
    from graft.training.evaluation.asking.connection import connected
    from graft.training.tour.classroom import Classroom
    from graft.training.tour.server import served
    from graft.training.tour.text import chapter_text
    from graft.training.tour.tour import walk

    chapters: list[Any] = []
    with contextlib.ExitStack() as stack:
        client = stack.enter_context(connected(args.server or stack.enter_context(served())))
        base = client.info().base.name
        room = stack.enter_context(Classroom(client, num_questions=args.questions, seed=args.seed))
        for chapter in walk(room, names):
            chapters.append(chapter)
            print(chapter_text(len(chapters), chapter), end="\n\n", flush=True)
    return base, chapters


def _check_file(path: Path) -> None:
    """Before minutes are spent on it."""
    from graft.training.errors import ConfigurationError

    if not path.parent.is_dir():
        raise ConfigurationError(f"{path}: there is no folder {path.parent}.")
    if path.is_dir() or not os.access(path if path.exists() else path.parent, os.W_OK):
        raise ConfigurationError(f"{path} cannot be written.")


def _count(text: str) -> int:
    if not text.isdigit() or not 5 <= int(text) <= 10_000:
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 5 to 10000")
    return int(text)
