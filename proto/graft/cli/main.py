"""The `graft` command: finds the commands, imports the chosen one, and turns failures into exit codes.

Exit codes: 0 success, 1 failure, 2 a mistake of the caller's, 130 interrupted.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version

from graft.cli.command import CommandEntry, CommandUnavailable, find_commands
from graft.cli.failure import INTERRUPTED, explain
from graft.machine.control_characters import harmless

_DESCRIPTION = "One quantized base model, many hot-swapped LoRA adapters: made, versioned and served."


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    argv = list(sys.argv[1:] if argv is None else argv)
    chosen = next((word for word in argv if not word.startswith("-")), None)
    try:
        commands = find_commands()
        args = _parser(commands, chosen).parse_args(argv)
        return _run(commands[args.command], args)
    except CommandUnavailable as error:
        print(f"graft {chosen}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:  # before the command began
        print("graft: interrupted", file=sys.stderr)
        return INTERRUPTED


def _run(entry: CommandEntry, args: argparse.Namespace) -> int:
    try:
        code = entry.load().run(args)
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        # The reader went away, as in `graft adapters list | head`: nothing more can be said.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (Exception, KeyboardInterrupt) as error:
        failure = explain(error, remedy=entry.remedy)
        if failure is None or args.traceback:
            raise
        print(f"graft {entry.name}: {harmless(failure.message)}", file=sys.stderr)
        return failure.exit_code


def _parser(commands: Mapping[str, CommandEntry], chosen: str | None) -> argparse.ArgumentParser:
    """All commands by name, the chosen one with its arguments; nothing else is imported unless help lists all."""
    parser = argparse.ArgumentParser(prog="graft", description=_DESCRIPTION)
    parser.add_argument("--version", action="version", version=f"graft {_version()}")
    parser.add_argument("--traceback", action="store_true", help="show where an error arose")
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", title="commands")
    for name, entry in commands.items():
        if chosen is None:
            subparsers.add_parser(name, help=entry.help())
        elif name == chosen:
            command = entry.load()
            command.configure(subparsers.add_parser(name, help=command.HELP, description=command.HELP))
        else:
            subparsers.add_parser(name)
    return parser


def _version() -> str:
    try:
        return version("graftserve")
    except PackageNotFoundError:
        return "unknown (not installed)"


if __name__ == "__main__":
    sys.exit(main())
