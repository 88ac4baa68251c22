"""What a program says without effect: its author is told, and nothing is refused."""

from __future__ import annotations

from collections.abc import Iterator

from graft.server.prompting.program.checks import MAX_ORDERED_LABELS
from graft.server.prompting.program.program import Choosing, Extraction, PromptProgram, Reasoning, Scoring


def notices_of(program: PromptProgram) -> tuple[str, ...]:
    """In sentences."""
    return tuple(_notices(program))


def _notices(program: PromptProgram) -> Iterator[str]:
    reasoning, default = program.reasoning, Reasoning()
    if reasoning.vote != default.vote and reasoning.paths == 1:
        yield f"reasoning.vote is {reasoning.vote}, which has no effect with one path"
    if not reasoning.stop_early and reasoning.paths == 1:
        yield "reasoning.stop_early is false, which has no effect with one path"
    if reasoning.method == "direct" and (reasoning.withhold or reasoning.instruction != default.instruction):
        yield 'reasoning.method is "direct", so that no rationale is asked for'
    if program.scoring != Scoring() and program.output.type != "choices":
        yield "scoring has no effect where the output is not one of choices"
    if program.choosing != Choosing() and (not program.demonstrations or program.mode == "zero_shot"):
        yield "choosing has no effect where no demonstrations are shown"
    if program.demonstrations and program.mode == "zero_shot":
        yield 'the mode is "zero_shot", so that the demonstrations are left out'
    choosing = program.choosing
    if choosing.method == "fixed" and choosing.seed != Choosing().seed:
        yield "choosing.seed has no effect where the demonstrations are fixed"
    if choosing.method != "mmr" and choosing.diversity != Choosing().diversity:
        yield f"choosing.diversity has no effect on the method {choosing.method}"
    if choosing.method == "embedding":
        yield "choosing.method is embedding: no embedding engine runs on this server, and each run is refused"
    yield from _of_order(program)
    if program.extraction != Extraction() and reasoning.method == "direct" and program.output.type != "text":
        yield f"extraction has no effect beside direct {program.output.type}: nothing else is in what the model answers"
    if program.scoring.orders > 1 and (reasoning.method != "direct" or not program.demonstrations):
        where = (
            "no demonstrations are shown" if not program.demonstrations else "the choices are scored after reasoning"
        )
        yield f"scoring.orders has no effect where {where}"
    if program.decoding.temperature == 0 and program.decoding.seed is not None:
        yield "decoding.seed has no effect at the temperature 0"


def _of_order(program: PromptProgram) -> Iterator[str]:
    shown = program.demonstrations[: program.choosing.count]
    if program.choosing.order != "entropy" or len(shown) < 2 or program.mode in ("zero_shot", "one_shot"):
        return
    labels = program.output.choices or {
        one.output if one.label is None else one.label for one in program.demonstrations
    }
    if not 2 <= len(labels) <= MAX_ORDERED_LABELS:
        yield (
            f"choosing.order is entropy, which needs between 2 and {MAX_ORDERED_LABELS} labels, and there are "
            f"{len(labels)}: each run is refused"
        )
