"""A program's prompt asked about nothing: what a model answers then, it answers whatever is asked."""

from __future__ import annotations

from graft.server.errors import BadInput
from graft.server.prompting.choices.asking import check_content_free
from graft.server.prompting.program.program import Calibration
from graft.server.prompting.rendering.writing import Draft
from graft.server.prompting.running.preparing import Prepared, Preparing


async def content_free_drafts(preparing: Preparing, prepared: Prepared) -> tuple[Draft, ...]:
    """The prompt once for each content-free input of contextual calibration.

    The input stands for each text, number, true and false of the variables. Raises `BadInput` where that changes
    nothing.
    """
    program = prepared.request.program
    if program.output.type != "choices" or program.scoring.calibration is not Calibration.CONTEXTUAL:
        return ()
    found = [await _asked_about(nothing, preparing, prepared) for nothing in program.scoring.content_free]
    shown = prepared.fitted.shown
    check_content_free(prepared.draft.written(shown), [one.written(shown) for one in found])
    return tuple(found)


async def _asked_about(nothing: str, preparing: Preparing, prepared: Prepared) -> Draft:
    try:
        return await _replaced(nothing, (str, int, float), preparing, prepared)
    except BadInput:  # a template of Jinja may reckon with a number
        return await _replaced(nothing, (str,), preparing, prepared)


async def _replaced(nothing: str, kinds: tuple[type, ...], preparing: Preparing, prepared: Prepared) -> Draft:
    """Only demonstrations that are shown: a program may have thousands."""
    request = prepared.request
    values = {name: nothing if isinstance(value, kinds) else value for name, value in request.variables.items()}
    return await preparing.draft(request.program, values, prepared.fitted.shown, prepared.sources)
