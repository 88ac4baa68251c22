"""Sampling options on the command line."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING, cast

from graft.cli.failure import UserError

if TYPE_CHECKING:
    from graft.client import SamplingOptions

_NUMBERS = {
    "max-tokens": (int, "tokens to generate at most (default: 128)"),
    "temperature": (float, "0 is greedy, the default"),
    "top-p": (float, "nucleus sampling (default: 1)"),
    "top-k": (int, "0 keeps all tokens, the default"),
    "min-p": (float, "drop tokens below this share of the likeliest"),
    "seed": (int, "for repeatable sampling"),
    "repetition-penalty": (float, "above 1 discourages repeating"),
}


def add_sampling_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the sampling options, a model and a stop string."""
    parser.add_argument(
        "--model", default="", help="<adapter>, <adapter>:<alias> or <adapter>@<version> (default: the base)"
    )
    for name, (kind, text) in _NUMBERS.items():
        parser.add_argument(f"--{name}", type=kind, help=text)
    parser.add_argument("--stop", action="append", metavar="TEXT", help="end before this text; may be repeated")
    parser.add_argument("--json-schema", metavar="JSON", help="a JSON schema that the answer follows")


def sampling_options(args: argparse.Namespace) -> SamplingOptions:
    """The options that were given. Raises UserError for a schema that is no JSON."""
    names = [name.replace("-", "_") for name in (*_NUMBERS, "stop", "json-schema")]
    options = {name: getattr(args, name) for name in names if getattr(args, name) is not None}
    if args.json_schema is not None:
        try:
            json.loads(args.json_schema)
        except json.JSONDecodeError as error:
            raise UserError(f"--json-schema is not JSON: {error}") from error
    return cast("SamplingOptions", options)


def check_utf8(args: argparse.Namespace) -> None:
    """Raises UserError where an argument holds bytes that are no UTF-8, which Python passes on as surrogates."""
    for name, value in vars(args).items():
        for text in value if isinstance(value, list) else [value]:
            if isinstance(text, str):
                checked_utf8(text, name)


def checked_utf8(text: str, source: str) -> str:
    """`text`. Raises UserError where it holds bytes that are no UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise UserError(f"{source} is not UTF-8 at character {error.start}: convert it, as with iconv") from None
    return text


def answered_by(answerer: object) -> str:
    """Who answered, for people: `dates@2 (1f2e…) on rootstock-5m`."""
    from graft.cli.terminal import short
    from graft.v1 import common_pb2

    assert isinstance(answerer, common_pb2.Answerer)
    form = common_pb2.ServingForm.Name(answerer.form).removeprefix("SERVING_FORM_").lower()
    base = f"{answerer.base} ({form})"
    if not answerer.version_digest:
        return base
    return f"{answerer.adapter}@{answerer.version_number} ({short(answerer.version_digest)}) on {base}"
