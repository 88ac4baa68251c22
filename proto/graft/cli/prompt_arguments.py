"""What a command is told of a program: its name or its file, its variables' values, and documents."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from graft.cli.failure import UserError


def add_prompt_arguments(parser: argparse.ArgumentParser) -> None:
    """The program is registered, or lies in a file."""
    parser.add_argument(
        "prompt", nargs="?", default="", help="NAME, NAME:LABEL or NAME@VERSION of a registered program"
    )
    parser.add_argument("--file", help="a program that is not registered: a JSON file")
    parser.add_argument(
        "--var", action="append", default=[], metavar="NAME=VALUE", help="a variable's value, as text; repeatable"
    )
    parser.add_argument("--variables", metavar="JSON", help="values as a JSON object, or @FILE with one")
    parser.add_argument("--document", action="append", default=[], metavar="FILE", help="a source; repeatable")


def program_of(args: argparse.Namespace) -> str | None:
    """The JSON of the program's file; None where a registered one is named. Raises `UserError`."""
    if bool(args.prompt) == bool(args.file):
        raise UserError("name a registered program, or give --file" + (", not both" if args.file else ""))
    return _text(args.file) if args.file else None


def variables_of(args: argparse.Namespace) -> dict[str, Any]:
    """Values by name; `--var` goes before `--variables`. Raises `UserError`."""
    values: dict[str, Any] = {}
    if args.variables is not None:
        text = _text(args.variables[1:]) if args.variables.startswith("@") else args.variables
        try:
            values = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise UserError(f"--variables: is not JSON: {str(error)[:100]}") from None
        if not isinstance(values, dict):
            raise UserError("--variables: it must be a JSON object of names and values")
    for one in args.var:
        name, equals, value = one.partition("=")
        if not name or not equals:
            raise UserError(f"--var {one}: write NAME=VALUE")
        values[name] = value
    return values


def documents_of(args: argparse.Namespace) -> list[dict[str, str]]:
    """The files' texts by their names. Raises `UserError`."""
    return [{"id": Path(file).name, "text": _text(file)} for file in args.document]


def _text(file: str) -> str:
    try:
        return Path(file).read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{file}: is not UTF-8 at byte {error.start}") from None


def split_reference(reference: str) -> tuple[str, str]:
    """The name and the version's number, digest or label, empty where none is said."""
    name, at, version = reference.removeprefix("prompt:").partition("@")
    if at:
        return name, version
    name, _, label = name.partition(":")
    return name, label
