"""A training of two processes whose first one cannot write what was made, after it has let the other wait: run by
torchrun with a folder and a text as arguments. Each process writes what ends it.
"""

from __future__ import annotations

import sys
import threading
from pathlib import Path
from typing import Any, NoReturn

import torch.distributed as dist

from graft.training.errors import NotWritten
from graft.training.launch import processes
from graft.training.launch.processes import joined
from graft.training.pretrain import finished
from tests.training.pretrain.making import job

NUM_WAITED = 4


def main(folder: Path, text: Path) -> None:
    is_late, has_waited, num_waited = threading.Event(), threading.Event(), 0
    broadcast = dist.broadcast_object_list

    def counted(*objects: list[Any], **options: Any) -> None:
        nonlocal num_waited
        broadcast(*objects, **options)
        num_waited += is_late.is_set()
        if num_waited == NUM_WAITED:
            has_waited.set()

    def refuse(*_: Any, **__: Any) -> NoReturn:
        is_late.set()
        assert has_waited.wait(60)
        raise NotWritten(f"the disk of process {dist.get_rank()} is full")

    dist.broadcast_object_list = counted
    processes._AGAIN_SECONDS = 0.01
    finished.put_in_place = refuse
    made = job(folder, text, dp_replicate=2, max_steps=2)
    with joined() as both:
        try:
            made.execute(both, resume=False)
        except NotWritten as error:
            (folder / f"ended-{dist.get_rank()}").write_text(str(error))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
