"""What left its slot comes back as it was, bit for bit, also where it never was a folder on its trainer's side."""

from __future__ import annotations

from pathlib import Path

from graft.client import Client
from tests.server.engine.making import write_adapter

# Within a block of the prefix cache, which would answer for the engine.
PROMPT, SAID = "One day", [" a", " the", " she"]


def test_a_version_from_memory_is_the_same_after_its_eviction(
    client: Client, layers: dict[str, tuple[int, int]], tmp_path: Path
) -> None:
    folder = write_adapter(tmp_path / "a", layers, rank=8, seed=300)
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    digest = client.push_adapter(files, name="remembered", alias="stable").version.digest

    def logprobs() -> list[list[float]]:
        scores = client.score(PROMPT, SAID, model="remembered").scores
        return [[token.logprob for token in score.tokens] for score in scores]

    first = logprobs()
    assert first != [[token.logprob for token in score.tokens] for score in client.score(PROMPT, SAID).scores]
    for number in range(client.residency().num_slots):
        other = write_adapter(tmp_path / f"other-{number}", layers, rank=8, seed=301 + number)
        client.push_adapter(other, name=f"evicting{number}", alias="stable")
    assert digest not in {one.digest for one in client.residency().versions}
    assert logprobs() == first
    assert client.push_adapter(folder, name="remembered").version.digest == digest
