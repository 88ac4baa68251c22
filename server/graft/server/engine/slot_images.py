"""The tier between files and slots: adapters in memory as the engine's slots hold them, so that entering is a copy."""

from __future__ import annotations

import contextlib
import os
import shutil
import threading
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from graft.server.engine.engine import EngineAdapter
from graft.server.engine.lora_cpu.slot_image import SUFFIX, SlotLayout, write_image

_NICENESS = 5


class SlotImages:
    """Slot images in one folder, best on a file system in memory; the least recently used leave beyond `max_bytes`."""

    def __init__(self, folder: Path, layout: SlotLayout, *, max_bytes: int) -> None:
        """The folder is emptied: images are made again faster than they could be verified. Raises `OSError`."""
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        self._folder = folder
        self._layout = layout
        self._max_bytes = max_bytes
        self._sizes: OrderedDict[str, int] = OrderedDict()
        self._lock = threading.Lock()
        # Of its own, and nice: the engine's threads must not wait for it.
        self.thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="graft-images", initializer=_be_nice)

    def path(self, digest: str) -> Path:
        """Where the image of a version is, once it is made."""
        return self._folder / f"{digest.removeprefix('sha256:')}{SUFFIX}"

    def make(self, adapter: EngineAdapter) -> Path:
        """The version's image, made where it is missing. Raises `ValueError` where it does not fit, `OSError`."""
        image = self.path(adapter.digest)
        with self._lock:
            if adapter.digest not in self._sizes:
                write_image(adapter.path, image, self._layout)
                self._sizes[adapter.digest] = image.stat().st_size
            self._sizes.move_to_end(adapter.digest)
            self._shrink()
        return image

    def close(self) -> None:
        """Remove all images."""
        self.thread.shutdown()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _shrink(self) -> None:
        while len(self._sizes) > 1 and sum(self._sizes.values()) > self._max_bytes:
            digest, _ = self._sizes.popitem(last=False)
            self.path(digest).unlink(missing_ok=True)


def _be_nice() -> None:
    with contextlib.suppress(OSError, AttributeError):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS)
