"""The tier between files and slots: adapters in memory as the engine's slots hold them, so that entering is a copy."""

from __future__ import annotations

import contextlib
import os
import threading
from collections import Counter, OrderedDict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from graft.adapters.store.session_folder import SessionFolder
from graft.server.engine.lora.slot_image import SUFFIX, SlotLayout, write_image
from graft.server.engine.lora.tensor_file import Scratch

_NICENESS = 5


class SlotImages:
    """Slot images in one folder, best on a file system in memory; the least recently used leave beyond `max_bytes`."""

    def __init__(self, folder: Path, layout: SlotLayout, *, max_bytes: int) -> None:
        """What another run left in the folder is removed: making images is faster than verifying them.

        Several processes may name the same folder. Raises `OSError`, or `StoreFull`.
        """
        self._folder = SessionFolder(folder)
        self._layout = layout
        self._max_bytes = max_bytes
        self._sizes: OrderedDict[str, int] = OrderedDict()
        self._scratch = Scratch()
        self._held: Counter[str] = Counter()
        self._lock = threading.Lock()
        # Of its own, and nice: the engine's threads must not wait for it.
        self.thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="graft-images", initializer=_be_nice)

    def path(self, digest: str) -> Path:
        """Where the image of a version is, once it is made."""
        return self._folder.path / f"{digest.removeprefix('sha256:')}{SUFFIX}"

    def make(self, digest: str, folder: Path) -> Path:
        """The image of the version in `folder`, made where it is missing; to be called in `thread` alone.

        Raises `ValueError` where it does not fit, `OSError`.
        """
        image = self.path(digest)
        missing = digest not in self._sizes or not image.is_file()
        if missing:
            write_image(folder, image, self._layout, self._scratch)
        with self._lock:
            if missing:
                self._sizes[digest] = image.stat().st_size
            self._sizes.move_to_end(digest)
            self._shrink()
        return image

    def prepare(self, digest: str, folder: Path) -> None:
        """Have an image made that may be wanted soon. Where that fails nobody is told: whoever wants it makes it again.

        An upload's folder is taken away when it is registered, so behind another image it may come too late.
        """
        with contextlib.suppress(RuntimeError):  # closed
            self.thread.submit(self.make, digest, folder)

    @contextlib.contextmanager
    def held(self, digest: str) -> Iterator[None]:
        """Keep a version's image, which is being copied into a slot, however many others are made meanwhile."""
        with self._lock:
            self._held[digest] += 1
        try:
            yield
        finally:
            with self._lock:
                self._held[digest] -= 1

    def close(self) -> None:
        """Remove all images."""
        self.thread.shutdown()
        self._folder.close()

    def _shrink(self) -> None:
        for digest in list(self._sizes)[:-1]:
            if sum(self._sizes.values()) <= self._max_bytes:
                break
            if not self._held[digest]:
                del self._sizes[digest]
                self.path(digest).unlink(missing_ok=True)


def _be_nice() -> None:
    with contextlib.suppress(OSError, AttributeError):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS)
