"""Which system calls a script cannot make, as the kernel's filter has it (seccomp, classic BPF).

Not to forbid ways of writing a script: to close memory that no limit of a process counts (files in memory, System V's
segments, pages held by pipes), what all processes of a machine share a number of, new namespaces, and the kernel's
larger parts that no grader needs. Sockets are Unix's own or none.
"""

from __future__ import annotations

import errno
import platform
import struct

_NEW_NAMESPACE = 0x7E02_0000 | 0x80  # CLONE_NEW*: user, pid, net, ipc, uts, cgroup, mount; time
_AF_UNIX = 1
_X32 = 0x4000_0000

# BPF: load a word; compare it; return.
_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_NUMBER, _ARCHITECTURE, _FIRST_ARGUMENT = 0, 4, 16
_ALLOW, _FAIL, _KILL = 0x7FFF_0000, 0x0005_0000, 0x8000_0000

_ARCHITECTURES = {"x86_64": 0xC000_003E, "aarch64": 0xC000_00B7}
# Of asm/unistd_64.h and asm-generic/unistd.h; None where the second has no such call.
_FORBIDDEN: dict[str, tuple[int, int | None]] = {
    "memfd_create": (319, 279),
    "memfd_secret": (447, 447),
    "shmget": (29, 194),
    "shmat": (30, 196),
    "semget": (64, 190),
    "msgget": (68, 186),
    "mq_open": (240, 180),
    "io_uring_setup": (425, 425),
    "userfaultfd": (323, 282),
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "unshare": (272, 97),
    "setns": (308, 268),
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "open_tree": (428, 428),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "mount_setattr": (442, 442),
    "open_by_handle_at": (304, 265),
    "personality": (135, 92),
    # Pages in pipes belong to no process any more, and a byte keeps a whole huge page.
    "vmsplice": (278, 75),
    "splice": (275, 76),
    "tee": (276, 77),
    # What the whole machine, or all of a user's processes, have a number of.
    "io_setup": (206, 0),
    "inotify_init": (253, None),
    "inotify_init1": (294, 26),
    "fanotify_init": (300, 262),
    "sync": (162, 81),
    "syncfs": (306, 267),
    # What the machine says of itself, and other processes' files.
    "syslog": (103, 116),
    "pidfd_getfd": (438, 438),
}
_CLONE, _CLONE3, _SOCKET = (56, 220), (435, 435), (41, 198)


class UnknownProcessor(OSError):
    """For this processor there is no filter."""


def call_filter() -> bytes:
    """The filter for this processor, as `bwrap --seccomp` reads it. Raises `UnknownProcessor`."""
    machine = platform.machine()
    if machine not in _ARCHITECTURES:
        known = " and ".join(_ARCHITECTURES)
        raise UnknownProcessor(f"system calls are filtered on {known} only; this is {machine}")
    which = list(_ARCHITECTURES).index(machine)
    program = [
        _op(_LOAD, _ARCHITECTURE),
        *_unless(_EQUAL, _ARCHITECTURES[machine], _KILL),
        _op(_LOAD, _NUMBER),
        # Other numbers of the same calls, on x86_64.
        *_if(_AT_LEAST, _X32, _FAIL | errno.ENOSYS),
        # Its flags lie in memory, where no filter reads: glibc then takes `clone`.
        *_if(_EQUAL, _CLONE3[which], _FAIL | errno.ENOSYS),
    ]
    for numbers in _FORBIDDEN.values():
        if (number := numbers[which]) is not None:
            program += _if(_EQUAL, number, _FAIL | errno.EPERM)
    program += [
        # Past the three that judge the argument, where it is another call.
        _op(_EQUAL, _CLONE[which], jump_else=4),
        _op(_LOAD, _FIRST_ARGUMENT),
        *_if(_ANY_BIT, _NEW_NAMESPACE, _FAIL | errno.EPERM),
        _op(_RETURN, _ALLOW),
        _op(_EQUAL, _SOCKET[which], jump_else=3),
        _op(_LOAD, _FIRST_ARGUMENT),
        *_unless(_EQUAL, _AF_UNIX, _FAIL | errno.EACCES),
        _op(_RETURN, _ALLOW),
    ]
    return b"".join(program)


def _op(code: int, value: int, *, jump: int = 0, jump_else: int = 0) -> bytes:
    return struct.pack("=HBBI", code, jump, jump_else, value)


def _if(test: int, value: int, answer: int) -> tuple[bytes, bytes]:
    return _op(test, value, jump_else=1), _op(_RETURN, answer)


def _unless(test: int, value: int, answer: int) -> tuple[bytes, bytes]:
    return _op(test, value, jump=1), _op(_RETURN, answer)
