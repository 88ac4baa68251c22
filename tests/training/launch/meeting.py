"""What two processes get of ``by_first``, written into a folder: run by torchrun with the folder as argument."""

from __future__ import annotations

import json
import sys
import threading
from pathlib import Path
from typing import Any

import torch.distributed as dist

from graft.training.errors import DataError
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

    with joined() as all_of_them:
        made = all_of_them.by_first(slowly)
        try:
            all_of_them.by_first(never)
        except DataError as error:
            found = {"made": made, "refused": str(error), "waited": said[: NUM_WAITED - 1]}
            (folder / str(dist.get_rank())).write_text(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
