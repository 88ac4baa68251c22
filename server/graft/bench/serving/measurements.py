"""What can be measured, in which order, and about how long each takes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from graft.bench.serving.figures import engine as engine_figures
from graft.bench.serving.figures import peers as peer_figures
from graft.bench.serving.figures import server as server_figures
from graft.bench.serving.figures import zipf as zipf_figures
from graft.bench.serving.peers.graft_server import GraftServer
from graft.bench.serving.workbench import Workbench

ENGINE, SERVER, MANY = "engine", "server", "many"
"""Where a measurement runs: on engines, through a server of 8 slots, through one of 16 with many adapters."""

_START_SECONDS = {ENGINE: 60.0, SERVER: 40.0, MANY: 40.0}


@dataclass(frozen=True, kw_only=True)
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


async def _stock(bench: Workbench, server: GraftServer, http_port: int) -> None:
    await peer_figures.against_stock(bench, server, http_port)


MEASUREMENTS: tuple[Measurement, ...] = (
    Measurement(
        name="prefill",
        place=ENGINE,
        run=engine_figures.long_prefill,
        about="2,048-token prefill with an adapter ÷ without, and its memory",
        seconds=(30, 8),
    ),
    Measurement(
        name="R4",
        place=ENGINE,
        run=engine_figures.adapter_over_base,
        about="adapter ÷ base",
        seconds=(0, 40),
        in_quick=True,
    ),
    Measurement(
        name="R1",
        place=ENGINE,
        run=engine_figures.mixed_over_swapping,
        about="mixed adapters ÷ swap per adapter",
        seconds=(0, 35),
        in_quick=True,
    ),
    Measurement(
        name="R6",
        place=ENGINE,
        run=engine_figures.cached_over_uncached,
        about="few-shot prompts with prefix cache ÷ without",
        seconds=(0, 15),
        in_quick=True,
    ),
    Measurement(
        name="peft",
        place=ENGINE,
        run=peer_figures.against_peft,
        about="Graft ÷ PEFT's mixed generate",
        seconds=(40, 25),
    ),
    Measurement(
        name="R3",
        place=ENGINE,
        run=engine_figures.merged_over_unmerged,
        about="merged ÷ unmerged",
        seconds=(35, 16),
    ),
    Measurement(
        name="llama",
        place=ENGINE,
        run=peer_figures.against_llama_cpp,
        about="Graft ÷ llama.cpp's server",
        seconds=(0, 0),
    ),
    Measurement(
        name="R7",
        place=SERVER,
        run=server_figures.registration,
        about="last byte of an upload → first token",
        seconds=(25, 2),
        in_quick=True,
    ),
    Measurement(
        name="R8",
        place=SERVER,
        run=server_figures.swap_pause,
        about="largest gap of 16 streams with swaps ÷ without",
        seconds=(30, 8),
        in_quick=True,
    ),
    Measurement(
        name="R5",
        place=SERVER,
        run=server_figures.working_set,
        about="time to first token, working set over slots ÷ within",
        seconds=(45, 35),
    ),
    Measurement(
        name="stock",
        place=SERVER,
        run=_stock,
        about="Graft's server ÷ stock vLLM's own",
        seconds=(60, 60),
    ),
    Measurement(
        name="R2",
        place=MANY,
        run=zipf_figures.throughput_by_number,
        about="throughput at N registered adapters ÷ at 1",
        seconds=(150, 45),
    ),
    Measurement(
        name="zipf",
        place=MANY,
        run=zipf_figures.many_over_few,
        about="1,000 adapters on 16 slots under Zipf arrivals",
        seconds=(150, 90),
    ),
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
