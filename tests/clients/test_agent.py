"""An agent: an adapter is trained here to call two tools, pushed to the running server, and asked by openai."""

from __future__ import annotations

import math
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import chain

import openai
import pytest

from graft.client import Client
from tests.clients.agent import KINDS, held_out, loop, rows, shown
from tests.running import Server

pytestmark = pytest.mark.slow
NUM_ROWS, NUM_OF_EACH = 480, 20
SETTINGS = {
    "--max-length": "1024",
    "--num-train-epochs": "2",
    "--per-device-train-batch-size": "2",
    "--learning-rate": "4e-3",
}


@pytest.fixture(scope="module")
def api(server: Server) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{server.http}/v1", api_key="unused", max_retries=0) as client:
        yield client


@pytest.fixture(scope="module")
def agent(server: Server, tmp_path_factory: pytest.TempPathFactory) -> str:
    """An adapter's name, trained and pushed as a user would."""
    folder = tmp_path_factory.mktemp("agent")
    data = folder / "rows.jsonl"
    data.write_text(rows(NUM_ROWS, seed=0))
    command = [sys.executable, "-m", "graft.cli.main", "finetune", "--base", "rootstock-5m", "--data", str(data)]
    command += ["--name", "agent", "--output", str(folder / "run"), "--push", server.grpc, "--alias", "stable"]
    done = subprocess.run([*command, *chain.from_iterable(SETTINGS.items())], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-4000:]
    return "agent"


def wilson(num_right: int, num: int, z: float = 1.96) -> tuple[float, float]:
    """The 95 % interval of a share (Wilson 1927, doi:10.1080/01621459.1927.10502953)."""
    share = num_right / num
    middle, spread = share + z * z / (2 * num), z * math.sqrt(share * (1 - share) / num + (z / (2 * num)) ** 2)
    return (middle - spread) / (1 + z * z / num), (middle + spread) / (1 + z * z / num)


def test_an_agent_calls_its_tools_and_says_what_they_found(api: openai.OpenAI, agent: str) -> None:
    """Held-out questions; of each, function and arguments of every call must be right, and their order."""
    questions = held_out(NUM_OF_EACH, seed=1)
    called, said = Counter[str](), Counter[str]()
    with ThreadPoolExecutor(16) as side_by_side:
        outcomes = list(side_by_side.map(partial(loop, api, agent), questions))
    for question, outcome, kind in zip(questions, outcomes, KINDS * NUM_OF_EACH, strict=True):
        is_right = outcome.calls == question.calls
        called[kind.__name__] += is_right
        said[kind.__name__] += is_right and outcome.said == question.answer
        if not is_right or outcome.said != question.answer:
            print(question.asked, outcome.calls, repr(outcome.said), "wanted:", question.calls, question.answer)
    for what, right in (("called", called), ("called and answered", said)):
        low, high = wilson(right.total(), len(questions))
        print(f"{what} rightly: {right.total()} of {len(questions)} [{low:.3f}, {high:.3f}], {dict(right)}")
    assert wilson(said.total(), len(questions))[0] >= 0.65
    assert min(said[kind.__name__] for kind in KINDS) > 0


def test_no_row_has_a_held_out_argument() -> None:
    arguments = [value for one in held_out(NUM_OF_EACH, seed=1) for _, call in one.calls for value in call.values()]
    text = rows(NUM_ROWS, seed=0)
    assert not [value for value in arguments if rf"\"{value}\"" in text] and r"\"sum\":\"" in text


def test_rows_are_what_the_server_shows(api: openai.OpenAI, client: Client) -> None:
    """A row's turns before the first call, with the chat template around them, are as long as the request's prompt."""
    (question, *_) = held_out(1, seed=2)
    system, asked, *_ = shown(question.turns())
    text = "".join(f"<|im_start|>{turn['role']}\n{turn['content']}<|im_end|>\n" for turn in (system, asked))
    num_tokens = len(client.tokenize(f"{text}<|im_start|>assistant\n").token_ids)
    assert loop(api, "base", question).num_prompt_tokens == num_tokens
