"""`graft serve`: one base and its adapters over gRPC and OpenAI's HTTP."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from pathlib import Path

from graft.server.settings.settings import InvalidSetting
from graft.server.settings.sources import add_flags, load_settings

HELP = "serve a base and its adapters over gRPC and an OpenAI-compatible HTTP API"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the settings as flags."""
    add_flags(parser)
    parser.add_argument(
        "--ready-file", type=Path, default=None, help="write ports and process ids here as JSON once ready"
    )


def run(args: argparse.Namespace) -> int:
    """Serve until a signal. Returns 0, 1 where the server could not go on, 2 for a mistake in what was asked."""
    try:
        settings = load_settings(flags=vars(args), environment=os.environ, config=args.config)
    except InvalidSetting as error:
        return _mistake(error)
    # Only now: a wrong flag is answered without waiting for the server's imports.
    from graft.adapters.errors import AlreadyExists, GraftError, InvalidBase, NotFound
    from graft.server.engine.engine import EngineError
    from graft.server.main import serve
    from graft.server.operations.logs import configure_logs
    from graft.server.operations.shutdown import to_the_end

    configure_logs(settings.log_format)
    try:
        return asyncio.run(to_the_end(serve(settings, ready_file=args.ready_file)))
    except (AlreadyExists, InvalidBase, InvalidSetting, NotFound, OSError) as error:
        return _mistake(error)
    except (GraftError, EngineError) as error:
        print(f"graft: error: {error}", file=sys.stderr)
        return 1


def _mistake(error: Exception) -> int:
    print(f"graft: error: {error}", file=sys.stderr)
    return 2
