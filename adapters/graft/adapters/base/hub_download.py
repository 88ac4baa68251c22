"""One download from a model hub: what it takes, whether there is room, how far it is, and why it cannot be."""

from __future__ import annotations

import contextlib
import errno
import shutil
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from graft.adapters.base.hub_id import HubId
from graft.adapters.errors import GraftError, NotFound, Reason, StoreFull

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_SAY_EVERY_SECONDS = 10.0
_LOGIN = "set HF_TOKEN, or HF_TOKEN_PATH to a file that holds the token, or run hf auth login"


def download(
    name: HubId,
    *,
    files: Sequence[str],
    left_out: Sequence[str],
    say: Callable[[str], None],
    say_every_seconds: float = _SAY_EVERY_SECONDS,
) -> Path:
    """The snapshot's folder in the cache, whose name is the commit. `files` and `left_out` are patterns of names.

    What the cache has is taken from there; without a hub in reach, that is all. Raises NotFound, StoreFull.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import DryRunError
    from huggingface_hub.utils.tqdm import disable_progress_bars

    disable_progress_bars()  # they draw over a log
    wanted: dict[str, Any] = {
        "repo_id": name.repository,
        "revision": name.revision,
        "allow_patterns": list(files),
        "ignore_patterns": list(left_out),
    }
    try:
        with contextlib.suppress(DryRunError):  # no hub in reach, or it refuses: below it is said why
            plan = snapshot_download(**wanted, dry_run=True)
            sizes = [one.file_size or 0 for one in plan if one.will_download]
            if sizes:
                with _told(name, sum(sizes), len(sizes), say, say_every_seconds):
                    return Path(snapshot_download(**wanted))
        return Path(snapshot_download(**wanted))
    except GraftError:
        raise
    except Exception as error:  # the transport below the library has errors of its own
        raise _refusal(name, error) from error


def in_cache(repository: str) -> bool:
    """Whether the local cache holds anything of this repository."""
    try:
        return _cached(repository).is_dir()
    except ImportError:
        return False


def _cached(repository: str) -> Path:
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE) / ("models--" + repository.replace("/", "--"))


@contextlib.contextmanager
def _told(
    name: HubId, num_bytes: int, num_files: int, say: Callable[[str], None], every_seconds: float
) -> Iterator[None]:
    """Say how far a download is. Raises StoreFull where it cannot fit."""
    blobs = _cached(name.repository) / "blobs"
    _check_room(name, num_bytes, blobs)
    before, ended = _size(blobs), threading.Event()

    def watch() -> None:
        while not ended.wait(every_seconds):
            say(f"{name}: {_told_size(_size(blobs) - before)} of {_told_size(num_bytes)}")

    say(f"{name} is fetched from the model hub: {_told_size(num_bytes)} in {num_files} files")
    watching = threading.Thread(target=watch, name="graft-download", daemon=True)
    watching.start()
    try:
        yield
    finally:
        ended.set()
        watching.join()


def _check_room(name: HubId, num_bytes: int, folder: Path) -> None:
    place = folder
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    if num_bytes > free:
        problem = f"{_told_size(num_bytes)} are needed, and {_told_size(free)} are free at {place}"
        raise StoreFull(f"{name} does not fit on the disk", [_room(problem)])


def _room(problem: str) -> Reason:
    return Reason(field="disk", problem=problem, remedy="make room, or let HF_HUB_CACHE name a folder on another disk")


def _size(folder: Path) -> int:
    found = 0
    for path in folder.glob("*"):
        with contextlib.suppress(OSError):  # renamed meanwhile: it is whole
            found += path.stat().st_size
    return found


def _told_size(num_bytes: int) -> str:
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if num_bytes >= factor:
            return f"{num_bytes / factor:.1f} {unit}"
    return f"{num_bytes} bytes"


def _refusal(name: HubId, error: Exception) -> GraftError:
    """Why the hub or the disk did not give it, and what to do."""
    if isinstance(error, OSError) and error.errno in _FULL:
        return StoreFull(f"{name} does not fit on the disk", [_room(str(error.strerror))])
    no_folder = "" if name.revision else f"no folder is called {name}, and "
    return NotFound(f"{no_folder}the model hub did not give {name}: {_cause(name, error)}")


def _cause(name: HubId, error: Exception) -> str:
    from huggingface_hub import constants, errors

    page = f"{constants.ENDPOINT}/{name.repository}"
    status = getattr(getattr(error, "response", None), "status_code", None)
    if isinstance(error, errors.GatedRepoError):
        return f"it is given to those alone who have accepted its terms at {page}; accept them, then {_LOGIN}"
    if isinstance(error, errors.RevisionNotFoundError):
        return f"it has no branch, tag or commit {name.revision}; those that it has are listed at {page}/tree/main"
    if isinstance(error, errors.RepositoryNotFoundError):
        return (
            f"there is no such repository at {page}, or it is private; check the name, and for a private one {_LOGIN}"
        )
    if status in (401, 403):
        return f"the token is not valid there, or has no right to read {page}: {_first_line(error)}; {_LOGIN}"
    if isinstance(error, errors.LocalEntryNotFoundError):
        return _not_cached(error)
    if isinstance(error, errors.HFValidationError):
        return f"that is no name of a repository: {_first_line(error)}"
    return f"{_first_line(error)}; try again, files that came whole are kept"


def _not_cached(error: Exception) -> str:
    from huggingface_hub import constants

    place = f"the cache {constants.HF_HUB_CACHE} does not hold it whole"
    if constants.HF_HUB_OFFLINE:
        return f"HF_HUB_OFFLINE is set, and {place}; unset it once, or bring the cache from a machine with a network"
    cause = f" ({_first_line(error.__cause__)})" if error.__cause__ is not None else ""
    return f"it cannot be reached{cause}, and {place}; check the network, HF_ENDPOINT and proxies, then try again"


def _first_line(error: BaseException) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), "no reason was given")[:300]
