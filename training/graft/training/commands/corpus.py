"""``graft corpus``: writes training rows, and tokens of text."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from graft.machine.processors import num_processors
from graft.training.settings.limits import count_of

if TYPE_CHECKING:
    from graft.training.corpus.shards.folder import TokenFolder

HELP = "write training rows or documents, or make tokens of text for large pretrainings"
_TASKS = ("dates-iso", "dates-us", "reverse", "shout", "initials", "sentiment")


def configure(parser: argparse.ArgumentParser) -> None:
    sources = parser.add_subparsers(dest="source", required=True, metavar="SOURCE")
    demo = sources.add_parser("demo", help="generated rows of a small task")
    demo.add_argument("task", choices=_TASKS)
    num_rows = count_of("rows")
    demo.add_argument("--rows", type=num_rows, default=500, help="how many (default: %(default)s)")
    demo.add_argument("--seed", type=int, default=0)
    demo.add_argument("--held-out", action="store_true", help="rows for measuring, which share nothing with the others")
    sums = sources.add_parser("sums", help="sums of two numbers of two digits for `graft reinforce`, no two the same")
    sums.add_argument("--rows", type=num_rows, help="a random sample of so many (default: all)")
    sums.add_argument("--seed", type=int, default=0)
    sums.add_argument("--held-out", action="store_true", help="one pair in eight, which is among no other rows")
    sst2 = sources.add_parser("sst2", help="rows from text<TAB>label lines, label 0 or 1")
    sst2.add_argument("--data", type=Path, required=True)
    sst2.add_argument("--rows", type=num_rows, help="a random sample of so many rows (default: all)")
    sst2.add_argument("--seed", type=int, default=0)
    hh = sources.add_parser("hh-rlhf", help="pairs of answers for `graft align` from Anthropic's hh-rlhf files")
    hh.add_argument("--data", type=Path, required=True, help="JSON lines, plain or gzip, as they are published")
    hh.add_argument("--rows", type=num_rows, help="a random sample of so many pairs (default: all)")
    hh.add_argument("--seed", type=int, default=0)
    instructions = sources.add_parser("self-instruct", help="rows of Alpaca from Self-Instruct's tasks")
    instructions.add_argument(
        "--data", type=Path, required=True, help="JSON lines, plain or gzip, with instruction and instances"
    )
    instructions.add_argument("--rows", type=num_rows, help="a random sample of so many rows (default: all)")
    instructions.add_argument("--seed", type=int, default=0)
    documents = sources.add_parser("documents", help="documents like those a base learned from, which it never saw")
    documents.add_argument("--recipe", default="rootstock-5m", help="the base's recipe (default: %(default)s)")
    documents.add_argument("--rows", type=num_rows, default=500, help="how many (default: %(default)s)")
    documents.add_argument("--seed", type=int, default=0)
    for source in (demo, sums, sst2, hh, instructions, documents):
        source.add_argument("--output", type=Path, required=True, help="file of JSON lines to write")
    _configure_tokens(sources)


def _configure_tokens(sources: Any) -> None:
    tokenize = sources.add_parser("tokenize", help="a folder of tokens, which `graft pretrain --text FOLDER` maps")
    tokenize.add_argument("--text", required=True, help="files of text as for `graft pretrain`, separated by commas")
    tokenize.add_argument(
        "--tokenizer", required=True, help="folder of a tokenizer or a base, or a hub's organisation/name"
    )
    tokenize.add_argument("--output", type=Path, required=True, help="folder to make")
    tokenize.add_argument("--workers", type=count_of("processes"), help="processes (default: one a processor)")
    check = sources.add_parser("check", help="compare all bytes of a folder of tokens with its digests")
    check.add_argument("folder", type=Path)


def run(args: argparse.Namespace) -> int:
    if args.source in ("tokenize", "check"):
        return {"tokenize": _tokenize, "check": _check}[args.source](args)
    makers = {
        "demo": _demo, "sums": _sums, "sst2": _sst2, "hh-rlhf": _hh_rlhf, "self-instruct": _self_instruct,
        "documents": _documents,
    }  # fmt: skip
    rows = makers[args.source](args)
    _write(args.output, rows)
    print(f"{len(rows)} rows in {args.output}")
    return 0


def _tokenize(args: argparse.Namespace) -> int:
    from graft.adapters.base.hub import Hub
    from graft.training.corpus.shards.making import Tokenizing
    from graft.training.errors import ConfigurationError
    from graft.training.pretrain.corpus import tokenized
    from graft.training.pretrain.fetched import fetched
    from graft.training.pretrain.settings import PretrainSettings
    from graft.training.pretrain.sources import end_id, saved_tokenizer

    if args.output.exists():
        raise ConfigurationError(f"--output {args.output} is there already: remove it, or choose another folder.")
    paths = [Path(one) for one in args.text.split(",") if one]
    if not paths:
        raise ConfigurationError(f"--text {args.text} names no text: give files, separated by commas.")
    settings = fetched(PretrainSettings(tokenizer=args.tokenizer), Hub(), weights=False)
    tokenizer = saved_tokenizer(settings.tokenizer or args.tokenizer)
    num_workers = args.workers or num_processors()
    job = Tokenizing(
        paths=paths, tokenizer=tokenizer, end_id=end_id(tokenizer), output=args.output, num_workers=num_workers
    )
    header = tokenized(job).header
    print(f"{header.num_tokens:,} tokens of {header.num_documents:,} documents in {args.output} ({header.digest})")
    return 0


def _check(args: argparse.Namespace) -> int:
    from graft.training.corpus.shards.folder import TokenFolder
    from graft.training.errors import DataError

    folder = TokenFolder.open(args.folder)
    if problems := [*folder.damaged(), *_tokenizer_problems(folder)]:
        raise DataError("\n".join(problems))
    header = folder.header
    print(f"{header.num_tokens:,} tokens of {header.num_documents:,} documents, as they were written ({header.digest})")
    return 0


def _tokenizer_problems(folder: TokenFolder) -> Iterator[str]:
    """What is wrong with the tokenizer that lies beside the tokens: trainings read it."""
    from graft.training.corpus.shards.spelled import tokenizer_digest
    from graft.training.errors import ConfigurationError
    from graft.training.pretrain.sources import saved_tokenizer

    try:
        if tokenizer_digest(saved_tokenizer(str(folder.tokenizer))) != folder.header.tokenizer:
            yield f"{folder.tokenizer} is damaged: it is not the tokenizer that spelled the tokens"
    except ConfigurationError as error:
        yield f"{folder.tokenizer} is damaged: {error}"


def _demo(args: argparse.Namespace) -> list[Any]:
    from graft.training.rootstock.corpus.demo import demo_rows

    return list(demo_rows(args.task, args.rows, seed=args.seed, held_out=args.held_out))


def _sums(args: argparse.Namespace) -> list[Any]:
    from graft.training.rootstock.corpus.arithmetic import sums

    return _sampled(sums(held_out=args.held_out), args)


def _sst2(args: argparse.Namespace) -> list[Any]:
    from graft.training.corpus import sst2

    return [sst2.row(example) for example in _sampled(sst2.read(args.data), args)]


def _hh_rlhf(args: argparse.Namespace) -> list[Any]:
    from graft.training.corpus import hh_rlhf

    converted = hh_rlhf.read(args.data)
    for reason, num in converted.dropped.most_common():
        print(f"{num} left out: {reason}")
    return _sampled(converted.rows, args)


def _self_instruct(args: argparse.Namespace) -> list[Any]:
    from graft.training.corpus import self_instruct

    return _sampled(self_instruct.read(args.data), args)


def _sampled(rows: Sequence[Any], args: argparse.Namespace) -> list[Any]:
    from random import Random

    return list(rows) if args.rows is None else Random(args.seed).sample(rows, min(args.rows, len(rows)))


def _documents(args: argparse.Namespace) -> list[Any]:
    from itertools import islice
    from random import Random

    from graft.training.rootstock.recipe import recipe_of

    mixture = recipe_of(args.recipe, num_steps=None, seed=0).mixture
    # A training draws from the streams SEED/STEP.
    documents = mixture.documents(Random(f"held out/{args.seed}"))
    return [{"text": one.text, "kind": one.kind} for one in islice(documents, args.rows)]


def _write(path: Path, rows: Iterable[Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.part")
    draft.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    draft.replace(path)
