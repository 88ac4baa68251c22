"""A process without rights, under a filter of system calls as a container's, that asks whether scripts can be run."""

from __future__ import annotations

import ctypes
import errno
import json
import platform
import sys
from pathlib import Path

from graft.server.grading.sandbox import system_calls as calls
from graft.server.grading.sandbox.limits import Limits
from graft.server.grading.sandbox.probe import probed

# mount, umount2, pivot_root, sethostname, unshare; clone.
NUMBERS = {
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "sethostname": (170, 161),
    "unshare": (272, 97),
}
_NEW_PRIVILEGES, _SECCOMP, _FILTER = 38, 22, 2


class _Program(ctypes.Structure):
    _fields_ = (("num", ctypes.c_ushort), ("code", ctypes.c_void_p))


def main() -> None:
    """`python`, then the names of calls that are forbidden; `clone` is that of a new namespace."""
    which = 0 if platform.machine() == "x86_64" else 1
    refused = calls._FAIL | errno.EPERM
    program = [
        calls._op(calls._LOAD, calls._NUMBER),
        *calls._if(calls._EQUAL, calls._CLONE3[which], calls._FAIL | errno.ENOSYS),
    ]
    for name in sys.argv[2:]:
        if name in NUMBERS:
            program += calls._if(calls._EQUAL, NUMBERS[name][which], refused)
    if "clone" in sys.argv[2:]:
        program += [
            calls._op(calls._EQUAL, calls._CLONE[which], jump_else=4),
            calls._op(calls._LOAD, calls._FIRST_ARGUMENT),
            *calls._if(calls._ANY_BIT, calls._NEW_NAMESPACE, refused),
            calls._op(calls._RETURN, calls._ALLOW),
        ]
    program += [calls._op(calls._RETURN, calls._ALLOW)]
    code = ctypes.create_string_buffer(b"".join(program), 8 * len(program))
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.prctl(_NEW_PRIVILEGES, 1, 0, 0, 0) == 0
    filtering = _Program(len(program), ctypes.addressof(code))
    assert libc.prctl(_SECCOMP, _FILTER, ctypes.byref(filtering), 0, 0) == 0
    found = probed(python=Path(sys.argv[1]), limits=Limits(num_processes=4))
    print(json.dumps(getattr(found, "reason", None)))


if __name__ == "__main__":
    main()
