"""`python -m tests.server.engine.answering <mode> <form> [threads]`: stands for the process that computes references.

`echo` answers with its own process id as a token, `error` says what went wrong, `crash` ends, `killed` is killed,
`hang` never answers, `scores` answers with the rows after a sign of life, `unmeasurable` says why it never will.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path


def main(mode: str, form: str, threads: str = "") -> None:
    mode = Path(mode).name
    for line in sys.stdin:
        request = json.loads(line)
        if mode == "hang":
            time.sleep(1000)
        if mode == "killed":
            print("out of memory", file=sys.stderr, flush=True)
            os.kill(os.getpid(), signal.SIGKILL)
        if mode == "crash":
            sys.exit("out of memory")
        if mode == "scores":
            rows = [{"token_ids": row, "logprobs": [-1.0] * (len(row) - 1)} for row in request["rows"]]
            print(json.dumps({"progress": 0.5}), json.dumps({"rows": rows}), sep="\n", flush=True)
            continue
        if mode == "unmeasurable":
            print(json.dumps({"unmeasurable": "fused experts"}), flush=True)
            continue
        row = {"token_ids": [os.getpid(), request["num_tokens"]], "logprobs": [-0.5]}
        answer = {"error": f"no {form}"} if mode == "error" else {"rows": [row] * request["num_rows"]}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
