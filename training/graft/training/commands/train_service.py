"""``graft train-service``: lets others write the training's loop, one base for all of them."""

import argparse
from pathlib import Path

from graft.training.commands.arguments.base import BASE
from graft.training.runtime.startup import prepare
from graft.training.settings.limits import count_of

HELP = "train adapters step by step for callers who write the loop, as with tinker's SDK"


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--server", default="localhost:8470", metavar="HOST:PORT", help="that samples: graft serve")
    parser.add_argument("--work", type=Path, default=Path("train-service"), metavar="DIR", help="where states are kept")
    parser.add_argument("--base", help=f"{BASE} (default: the server's)")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--http-port", type=int, default=8480, metavar="N", help="of tinker's wire; 0: a free one")
    parser.add_argument("--grpc-port", type=int, default=8481, metavar="N", help="of TrainService; 0: a free one")
    parser.add_argument(
        "--max-adapters", type=count_of("adapters"), default=8, metavar="N", help="that learn at once (default: 8)"
    )
    parser.add_argument(
        "--idle-seconds",
        type=count_of("seconds"),
        default=600,
        metavar="N",
        help="without a sign of life, after which a session ends (default: 600)",
    )
    parser.add_argument("--ready-file", type=Path, metavar="FILE", help="gets the ports as JSON, once all is ready")


def run(args: argparse.Namespace) -> int:
    prepare()
    from graft.training.service.running import ServiceSettings, serve
    from graft.training.service.sessions.limits import Limits

    serve(
        ServiceSettings(
            server=args.server,
            work=args.work,
            base=args.base,
            host=args.host,
            http_port=args.http_port,
            grpc_port=args.grpc_port,
            limits=Limits(max_adapters=args.max_adapters, idle_seconds=float(args.idle_seconds)),
            ready_file=args.ready_file,
        )
    )
    return 0
