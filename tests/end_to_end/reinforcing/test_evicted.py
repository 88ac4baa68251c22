"""What left its slot comes back as it was, bit for bit, also where it never was a folder on its trainer's side."""

from __future__ import annotations

from pathlib import Path

from graft.client import Client
from tests.server.engine.making import write_adapter

MAX_TURNS = 20
# Within a block of the prefix cache, which would answer for the engine.
PROMPT, SAID = "One day", [" a", " the", " she"]


def test_a_version_from_memory_is_the_same_after_its_eviction(
    client: Client, layers: dict[str, tuple[int, int]], tmp_path: Path
) -> None:
    folder = write_adapter(tmp_path / "a", layers, rank=8, seed=300)
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    digest = client.push_adapter(files, name="remembered", alias="stable").version.digest

    def logprobs(model: str = "remembered") -> list[float]:
        """Of one text after the other: in another batch the engine rounds otherwise."""
        return [token.logprob for said in SAID for token in client.score(PROMPT, [said], model=model).scores[0].tokens]

    first = logprobs()
    assert first == logprobs() != logprobs(model="")
    others = [f"evicting{number}" for number in range(client.residency().num_slots)]
    for number, name in enumerate(others):
        client.push_adapter(write_adapter(tmp_path / name, layers, rank=8, seed=301 + number), name=name)
    for name in others * MAX_TURNS:  # who leaves is the least asked for, too
        if digest not in {one.digest for one in client.residency().versions}:
            break
        client.score(PROMPT, SAID, model=f"{name}@1")
    else:
        raise AssertionError("it never left its slot")
    assert logprobs() == first
    assert client.push_adapter(folder, name="remembered").version.digest == digest
