"""A program's prompt asked about nothing: what a model answers then, it answers whatever is asked."""

from __future__ import annotations

from graft.server.errors import BadInput, Violation
from graft.server.prompting.program.program import Calibration
from graft.server.prompting.rendering.writing import Draft
from graft.server.prompting.running.preparing import Prepared, Preparing


async def content_free_drafts(preparing: Preparing, prepared: Prepared) -> tuple[Draft, ...]:
    """The prompt once for each content-free input of contextual calibration.

    The input stands for each text, number, true and false of the variables. Raises `BadInput` where that changes
    nothing, unless the request itself asks about nothing: then all choices are as likely, as they should be.
    """
    program = prepared.request.program
    if program.output.type != "choices" or program.scoring.calibration is not Calibration.CONTEXTUAL:
        return ()
    found = [await _asked_about(nothing, preparing, prepared) for nothing in program.scoring.content_free]
    asked, shown = prepared.draft.written(prepared.fitted.shown), prepared.fitted.shown
    says_nothing = any(value in program.scoring.content_free for value in prepared.request.variables.values())
    if not says_nothing and all(one.written(shown) == asked for one in found):
        problem = (
            f"is {Calibration.CONTEXTUAL}, and content-free inputs change nothing in this prompt, so that the first "
            "choice would always win: give what it asks about as a variable that is a text or a number"
        )
        raise BadInput(Violation(field="scoring.calibration", problem=problem))
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
