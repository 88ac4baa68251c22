"""What can be measured, in which order, and about how long each takes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from graft.bench.serving.measurements import engine, peers, programs, prompts, publishing, server, zipf

ENGINE, SERVER, MANY = "engine", "server", "many"
"""Where a measurement runs: on engines, through a server of 8 slots, through one of 16 with many adapters."""

_START_SECONDS = {ENGINE: 60.0, SERVER: 40.0, MANY: 40.0}


@dataclass(frozen=True)
class Measurement:
    """`seconds` is for SmolLM2-135M's shape on two cores: a fixed part and one per pair."""

    name: str
    place: str
    run: Callable[..., Awaitable[None]]
    about: str
    seconds: tuple[float, float]
    in_quick: bool = False

    def estimate(self, *, num_pairs: int, cost: float) -> float:
        """Seconds that it may take."""
        fixed, per_pair = self.seconds
        return fixed * (0.4 + 0.6 * cost) + per_pair * (num_pairs + 1) * cost


MEASUREMENTS: tuple[Measurement, ...] = (
    Measurement(
        "prefill",
        ENGINE,
        engine.long_prefill,
        "2,048-token prefill with an adapter ÷ without, and its memory",
        seconds=(30, 8),
    ),
    Measurement("R4", ENGINE, engine.adapter_over_base, "adapter ÷ base", seconds=(0, 40), in_quick=True),
    Measurement(
        "R1", ENGINE, engine.mixed_over_swapping, "mixed adapters ÷ swap per adapter", seconds=(0, 35), in_quick=True
    ),
    Measurement(
        "R6",
        ENGINE,
        engine.cached_over_uncached,
        "few-shot prompts with prefix cache ÷ without",
        seconds=(0, 15),
        in_quick=True,
    ),
    Measurement(
        "prefix",
        ENGINE,
        prompts.shared_prefixes,
        "first token, 20 paths and 8 options after a shared prefix ÷ without sharing",
        seconds=(10, 25),
    ),
    Measurement("peft", ENGINE, peers.against_peft, "Graft ÷ PEFT's mixed generate", seconds=(40, 25)),
    Measurement("R3", ENGINE, engine.merged_over_unmerged, "merged ÷ unmerged", seconds=(35, 16)),
    Measurement("llama", ENGINE, peers.against_llama_cpp, "Graft ÷ llama.cpp's server", seconds=(0, 0)),
    Measurement(
        "R7", SERVER, server.registration, "last byte of an upload → first token", seconds=(25, 2), in_quick=True
    ),
    Measurement(
        "step",
        SERVER,
        publishing.step_to_first_token,
        "a policy's step → first token of its version ÷ R7, and ÷ the way through a folder",
        seconds=(10, 2),
        in_quick=True,
    ),
    Measurement(
        "R8",
        SERVER,
        server.swap_pause,
        "largest gap of 16 streams with swaps ÷ without",
        seconds=(30, 8),
        in_quick=True,
    ),
    Measurement(
        "R5", SERVER, server.working_set, "time to first token, working set over slots ÷ within", seconds=(45, 35)
    ),
    Measurement(
        "program",
        SERVER,
        programs.program_over_raw,
        "a prompt program ÷ the same request written by hand",
        seconds=(5, 20),
    ),
    Measurement("stock", SERVER, peers.against_stock, "Graft's server ÷ stock vLLM's own", seconds=(60, 60)),
    Measurement("R2", MANY, zipf.throughput_by_number, "throughput at N registered adapters ÷ at 1", seconds=(150, 45)),
    Measurement("zipf", MANY, zipf.many_over_few, "1,000 adapters on 16 slots under Zipf arrivals", seconds=(150, 90)),
)

NAMES = tuple(each.name for each in MEASUREMENTS)


def chosen(only: list[str] | None, *, quick: bool) -> list[Measurement]:
    """Those asked for, in the order in which they are run."""
    if only:
        return [each for each in MEASUREMENTS if each.name in only]
    return [each for each in MEASUREMENTS if each.in_quick or not quick]


def estimate(measurements: list[Measurement], *, num_pairs: int, cost: float) -> float:
    """Seconds in all, starts of engines and servers included."""
    places = {each.place for each in measurements}
    starts = sum(_START_SECONDS[place] for place in places) * (0.7 + 0.3 * cost)
    return starts + sum(each.estimate(num_pairs=num_pairs, cost=cost) for each in measurements)
