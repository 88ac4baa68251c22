"""Runs inside the sandbox, alone: bounds itself, says so, reads a script with what it grades, and writes what it says.

Its text is given to a Python that has the standard library and nothing of this one. What it writes are two lines: an
empty one when the limits hold, and one of JSON.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import traceback
from typing import Any

_MAX_SAID = 4000


def main() -> None:
    """From now on the limits hold; then the script is read."""
    for name, most in json.loads(sys.argv[1]).items():
        # Of processor time the first word is a signal of its own, which says what it was.
        hard = most + 1 if name == "RLIMIT_CPU" else most
        resource.setrlimit(getattr(resource, name), (most, hard))
    os.nice(5)
    os.write(1, b"\n")
    # Without all of it, such as where the server has ended meanwhile, it is no JSON, and nothing is run.
    job = json.loads(sys.stdin.buffer.read())
    answer = os.dup(1)
    # What the script prints goes where errors go, and there is nothing to read.
    os.dup2(2, 1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    said = _said(job)
    os.write(answer, json.dumps(said).encode() + b"\n")
    os._exit(0)


def _said(job: dict[str, Any]) -> dict[str, Any]:
    names: dict[str, Any] = {"__name__": "grader"}
    try:
        exec(compile(job["source"], "grader.py", "exec"), names)
        grade = names.get("grade")
        if not callable(grade):
            return {"fault": "the script defines no function grade(sample, item)"}
        if not job["calls"]:
            return {"reward": "0"}
        reward = grade(job["sample"], job["item"])
        if isinstance(reward, bool):
            reward = float(reward)
        # numpy's numbers and the like are numbers, too; texts are none.
        if isinstance(reward, str | bytes) or not hasattr(reward, "__float__"):
            return {"fault": f"grade returned {type(reward).__name__}: it returns a number"}
        return {"reward": repr(float(reward))}
    except MemoryError:
        return {"fault": "MemoryError: the script asked for more memory than its limit"}
    except Exception:
        return {"fault": traceback.format_exc(limit=-3)[-_MAX_SAID:]}


if __name__ == "__main__":
    main()
