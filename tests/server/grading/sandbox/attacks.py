"""Scripts that mean harm, each with what becomes of it: the kind of fault, or the reward where it does none."""

# Scripts stand in one line each.
# ruff: noqa: E501

from __future__ import annotations

import platform
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Attack:
    """`end`: a kind of `ScriptFault`, or the reward; `says`: words of the fault."""

    name: str
    source: str
    end: str | float
    says: str = ""


def _grade(body: str) -> str:
    lines = "\n".join(f"    {line}" for line in body.strip().splitlines())
    return f"import ctypes, mmap, os, signal, socket, sys, threading, time\ndef grade(sample, item):\n{lines}\n"


def _refused(body: str) -> str:
    """1 where every line fails."""
    tries = "\n".join(
        f"try:\n    {line}\n    return 0\nexcept (OSError, ValueError):\n    pass" for line in body.strip().splitlines()
    )
    return _grade(tries + "\nreturn 1")


# vmsplice (a byte of a page in a pipe keeps all of it, and no process has it), splice, tee; io_setup, inotify_init1,
# fanotify_init, sync, syncfs, syslog.
_CLOSED = (
    (278, 275, 276, 206, 294, 300, 162, 306, 103)
    if platform.machine() == "x86_64"
    else (75, 76, 77, 0, 26, 262, 81, 267, 116)
)
_CALL = "ctypes.CDLL(None, use_errno=True)"

ATTACKS = (
    Attack(
        name="fork bomb",
        source=_grade("while True:\n    try:\n        os.fork()\n    except OSError:\n        pass"),
        end="time",
    ),
    Attack(name="endless loop", source=_grade("while True: pass"), end="time", says="0.5 s"),
    Attack(name="endless loop while it is read", source="while True: pass", end="time"),
    Attack(name="sleeping", source=_grade("time.sleep(1000)"), end="time"),
    Attack(
        name="threads without end",
        source=_grade("while True:\n    try: threading.Thread(target=time.sleep, args=[9]).start()\n    except (RuntimeError, MemoryError): pass"),
        end="time",
    ),
    Attack(name="10 GB", source=_grade("return len(bytearray(10 << 30))"), end="raised", says="memory"),
    Attack(
        name="memory of several processes",
        source=_grade(
            "for _ in range(6):\n    if not os.fork():\n        kept = bytes(range(256)) * (100 << 12)\n"
            "        time.sleep(100)\ntime.sleep(100)"
        ),
        end="memory",
        says="MiB",
    ),
    Attack(
        name="shared memory without a name",
        source=_grade(
            "held = []\nfor _ in range(3):\n    held.append(mmap.mmap(-1, 50 << 20))\n    held[-1].write(b'x' * (50 << 20))\n"
            "for _ in range(6): os.fork()\ntime.sleep(100)"
        ),
        end="raised",
    ),
    Attack(
        name="memory that belongs to no process",
        source=_refused(
            "os.memfd_create('x')\n"
            f"if {_CALL}.shmget(0, 1 << 20, 0o1600) < 0: raise OSError\n"
            f"if {_CALL}.msgget(0, 0o1600) < 0: raise OSError"
        ),
        end=1.0,
    ),
    Attack(
        name="memory that pipes hold, and what the whole machine has a number of",
        source=_grade(f"""
L = {_CALL}
for number in {_CLOSED}:
    L.syscall(number, -1, 0, 0, 0, 0, 0)
    if ctypes.get_errno() != 1: return number
return 1"""),
        end=1.0,
    ),
    Attack(name="descriptors of the server's", source=_grade("for fd in range(4, 1024):\n    try: os.fstat(fd)\n    except OSError: continue\n    return 0\nreturn 1"), end=1.0),
    Attack(
        name="writing files",
        source=_refused(
            "\n".join(f"open('{folder}/x', 'w')" for folder in ("", "/tmp", "/dev/shm", "/usr", "/var/tmp", "/run", "."))
        ),
        end=1.0,
    ),
    Attack(
        name="reading what is the machine's",
        source=_refused("\n".join(f"os.listdir('{name}')" for name in ("/etc/ssl", "/root", "/home", "/var", "/tmp", "/run", "/sys"))
                        + "\nopen('/etc/passwd')\nopen('/etc/shadow')"),
        end=1.0,
    ),
    Attack(
        name="what the server was told",
        source=_grade("return len(os.environ)"),
        # The command's four, and the shell's PWD that bwrap says.
        end=5.0,
    ),
    Attack(
        name="network",
        source=_refused(
            "socket.create_connection(('127.0.0.1', item['port']), 1)\n"
            "socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n"
            "socket.socket(socket.AF_NETLINK, socket.SOCK_RAW)\n"
            "socket.getaddrinfo('example.com', 80)"
        ),
        end=1.0,
    ),
    Attack(
        name="new namespaces, more rights",
        source=_refused(
            f"if {_CALL}.unshare(0x10000000) < 0: raise OSError\n"
            f"if {_CALL}.mount(b'x', b'/', b'tmpfs', 0, None) < 0: raise OSError\n"
            f"if {_CALL}.syscall(56, 0x10000011, 0, 0, 0, 0) < 0: raise OSError\n"
            "os.setuid(0)\n"
            "os.chroot('/usr')\n"
            "__import__('resource').setrlimit(__import__('resource').RLIMIT_AS, (1 << 40, 1 << 40))\n"
            "__import__('resource').setrlimit(__import__('resource').RLIMIT_NPROC, (1000, 1000))"
        ),
        end=1.0,
    ),
    Attack(
        name="the first process, which has no limits",
        source=_refused("open('/proc/1/mem', 'r+b')\nopen('/proc/1/maps')\nos.listdir('/proc')"),
        end=1.0,
    ),
    Attack(name="crash", source=_grade("ctypes.string_at(0)"), end="ended", says="signal 11"),
    Attack(name="output without end", source=_grade("while True: print('x' * 1000)"), end="output", says="65536 bytes"),
    Attack(
        name="another program's output",
        source=_grade("os.execv('/usr/bin/yes', ['yes'])"),
        end="output",
    ),
    Attack(
        name="answers without a line's end",
        source=_grade("while True:\n    for fd in range(3, 10):\n        try: os.write(fd, b'x' * 4096)\n        except OSError: pass"),
        end="output",
    ),
    Attack(
        name="another's words for an answer",
        source=_grade("for fd in range(3, 10):\n    try: os.write(fd, b'[' * 40000 + b'\\n')\n    except OSError: pass\ntime.sleep(9)"),
        end="result",
    ),
    Attack(name="sys.exit", source=_grade("sys.exit(3)"), end="ended", says="code 3"),
    Attack(name="os._exit", source=_grade("os._exit(0)"), end="ended", says="code 0"),
    Attack(name="signal to itself", source=_grade("os.kill(os.getpid(), signal.SIGKILL)"), end="ended", says="signal 9"),
    Attack(
        name="signals to all",
        source=_grade("os.kill(1, signal.SIGKILL)\ntry: os.kill(-1, signal.SIGKILL)\nexcept OSError: pass\nos.killpg(0, signal.SIGTERM)"),
        end="ended",
        says="signal 15",
    ),
    Attack(name="stopping itself", source=_grade("os.kill(os.getpid(), signal.SIGSTOP)"), end="time"),
    Attack(
        name="a process left over",
        source=_grade(
            "if not os.fork():\n    os.setsid()\n    for one in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:\n"
            "        signal.signal(one, signal.SIG_IGN) if one < 32 else None\n"
            "    if not os.fork():\n        time.sleep(1000)\n    os._exit(0)\nreturn 0.5"
        ),
        end=0.5,
    ),
    Attack(name="reading the input", source=_grade("return len(sys.stdin.read()) + len(os.read(0, 10))"), end=0.0),
    Attack(name="closing everything", source=_grade("os.closerange(0, 64)\nreturn 1"), end="ended"),
    Attack(name="a fault of 10 MB", source=_grade("raise ValueError('x' * 10_000_000)"), end="raised", says="xxx"),
    Attack(name="half of a character", source=_grade("raise ValueError('\\ud800')"), end="raised", says="ValueError: ?"),
    Attack(
        name="a number larger than any",
        source=_grade("for fd in range(3, 10):\n    try: os.write(fd, b'{\"reward\": 1' + b'0' * 400 + b'}\\n')\n    except OSError: pass\ntime.sleep(9)"),
        end="result",
    ),
    Attack(name="a number that is none", source=_grade("return 10 ** 400"), end="raised", says="OverflowError"),
    Attack(name="no number", source=_grade("return float('nan')"), end="result", says="finite"),
    Attack(name="a text", source=_grade("return '1'"), end="raised", says="returned str"),
    Attack(name="no function", source="score = 1", end="raised", says="no function grade"),
    Attack(name="no Python", source="def grade(", end="raised", says="SyntaxError"),
)  # fmt: skip
