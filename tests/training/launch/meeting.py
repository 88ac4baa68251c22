"""What two processes get of ``by_first``, written into a folder: run by torchrun with the folder as argument."""

from __future__ import annotations

import json
import sys
import threading
from pathlib import Path
from typing import Any

import torch.distributed as dist

from graft.training.errors import DataError, Interrupted
from graft.training.launch import processes
from graft.training.launch.processes import joined

NUM_WAITED = 4


def main(folder: Path) -> None:
    has_waited, said = threading.Event(), []
    broadcast = dist.broadcast_object_list

    def counted(objects: list[Any], **options: Any) -> None:
        broadcast(objects, **options)
        said.append(objects[0][0])
        if len(said) == NUM_WAITED:
            has_waited.set()

    dist.broadcast_object_list = counted
    processes._AGAIN_SECONDS = 0.01

    def slowly() -> str:
        assert has_waited.wait(60)
        return f"made by {dist.get_rank()}"

    def never() -> str:
        raise DataError(f"refused by {dist.get_rank()}")

    def unpassable() -> str:
        raise Interrupted("a keyword of its own is lost on the way", number=15)

    with joined() as all_of_them:
        made = all_of_them.by_first(slowly)
        refused = []
        for make in (never, unpassable):
            try:
                all_of_them.by_first(make)
            except (DataError, Interrupted, RuntimeError) as error:
                refused.append(str(error))
        found = {"made": made, "refused": refused, "waited": said[: NUM_WAITED - 1]}
        (folder / str(dist.get_rank())).write_text(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
