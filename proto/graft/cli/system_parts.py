"""What Graft needs of the system itself: programs and shared libraries that come with no Python package.

Standard library only: `make setup` runs this file before anything is installed, `graft doctor` imports it.
"""

from __future__ import annotations

import ctypes
import shutil
import sys
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class SystemPart:
    """A program, or a shared library by its file name. `package` is Debian's and Ubuntu's name for what brings it."""

    name: str
    package: str
    purpose: str
    optional: bool = False

    @property
    def is_there(self) -> bool:
        """Whether the program is on PATH, or the loader finds the library."""
        if ".so" not in self.name:
            return shutil.which(self.name) is not None
        try:
            ctypes.CDLL(self.name)
        except OSError:
            return False
        return True

    @property
    def problem(self) -> str:
        """What to say where it is missing."""
        return f"{self.name} is missing ({self.purpose}): apt-get install {self.package}"


PARTS = (
    SystemPart(name="lscpu", package="util-linux", purpose="vLLM asks it for the cores"),
    SystemPart(name="libstdc++.so.6", package="libstdc++6", purpose="torch and vLLM are linked against it"),
    SystemPart(name="libgcc_s.so.1", package="libgcc-s1", purpose="torch and vLLM are linked against it"),
    SystemPart(
        name="libnuma.so.1",
        package="libnuma1",
        purpose="without it memory is not bound to the engine's node, which matters on two sockets or more",
        optional=True,
    ),
)


def main() -> int:
    """Say what is missing; 1 where it is needed."""
    missing = [part for part in PARTS if not part.is_there and not part.optional]
    for part in missing:
        print(part.problem, file=sys.stderr)
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
