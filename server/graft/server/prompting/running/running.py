"""A prepared program is run within one admitted request."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace

from graft.server.prompting.asking import Asker, Written
from graft.server.prompting.choices import orders
from graft.server.prompting.choices.asking import ChoiceAnswer, ChoiceAsking, ChoiceQuestion
from graft.server.prompting.choices.scoring import OrderEffect
from graft.server.prompting.program.program import PromptProgram
from graft.server.prompting.reasoning.reasoning import reason
from graft.server.prompting.reasoning.task import Accept, Choose, Growth, Reasoned, Task
from graft.server.prompting.rendering.writing import Draft
from graft.server.prompting.running.content_free import content_free_drafts
from graft.server.prompting.running.ordering import Ordering
from graft.server.prompting.running.preparing import Prepared, Preparing
from graft.server.prompting.sources.citations import Checked, check
from graft.server.serving import Ticket


@dataclass(frozen=True, kw_only=True)
class Answer:
    """The end of a run. `choice` is None where choices were not scored once, `checked` where no sources were shown."""

    reasoned: Reasoned
    choice: ChoiceAnswer | None
    checked: Checked | None
    shown: tuple[int, ...]
    dropped: tuple[int, ...]
    notices: tuple[str, ...]


class Running:
    """Keeps what later runs use again: orders that were sought, and what calibration has learned."""

    def __init__(self, preparing: Preparing) -> None:
        self._preparing = preparing
        self._ordering = Ordering(preparing)
        self._choices = ChoiceAsking()

    async def run(self, asker: Asker, prepared: Prepared, ticket: Ticket) -> AsyncGenerator[Growth | Answer, None]:
        """What answer and rationale grow by, and the result in the end. Closing it ends all that is under way.

        Raises `NoAnswer`, `UnsupportedClaims`, `BadInput`, and what serving does.
        """
        program = prepared.request.program
        who = ticket.answerer.version_digest or ticket.answerer.base_digest
        order = await self._ordering.order(asker, prepared, (ticket.cache_salt, who))
        prompt = prepared.draft.written(order)
        free = await content_free_drafts(self._preparing, prepared)
        scored = _Scored(self._choices, asker, prepared, order, free, who)
        task = task_of(prepared, prompt, scored.choose if program.output.type == "choices" else None)
        if free and program.reasoning.method != "direct":
            task = replace(task, choosing_tokens=await _longer_by(asker, prompt, [one.written(order) for one in free]))
        events = reason(asker, task)
        async with aclosing(events):
            async for event in events:
                yield event if isinstance(event, Growth) else self._answer(prepared, event, scored.answer)

    def _answer(self, prepared: Prepared, reasoned: Reasoned, choice: ChoiceAnswer | None) -> Answer:
        sourcing, found = prepared.request.program.sourcing, prepared.sources
        checked = None
        if sourcing is not None and found is not None:
            checked = check(reasoned.answer, found.passages, sourcing)
        if reasoned.votes:  # the choices were scored on each path, and the vote is the answer's own
            choice = None
        more = () if choice is None else choice.notices
        return Answer(
            reasoned=reasoned,
            choice=choice,
            checked=checked,
            shown=prepared.fitted.shown,
            dropped=prepared.fitted.dropped,
            notices=(*prepared.notices, *more, *reasoned.notices),
        )


class _Scored:
    """Choices, scored as the program asks; what came of it is kept for the reply."""

    def __init__(
        self,
        choices: ChoiceAsking,
        asker: Asker,
        prepared: Prepared,
        order: Sequence[int],
        content_free: Sequence[Draft],
        who: str,
    ) -> None:
        self._choices = choices
        self._asker = asker
        self._prepared = prepared
        self._order = order
        self._content_free = content_free
        self._who = who
        self.answer: ChoiceAnswer | None = None

    async def choose(self, prompt: Written) -> str:
        program = self._prepared.request.program
        question = self._question(prompt, self._order)
        self.answer = await self._choices.ask(self._asker, question, program.scoring)
        if program.scoring.orders > 1 and program.reasoning.method == "direct" and len(self._order) > 1:
            notice = orders.told(await self._order_effect(), question.choices)
            self.answer = replace(self.answer, notices=(*self.answer.notices, notice))
        return self.answer.answer

    def _question(self, prompt: Written, order: Sequence[int]) -> ChoiceQuestion:
        program, version = self._prepared.request.program, self._prepared.request.version
        return ChoiceQuestion(
            prompt=prompt,
            choices=program.output.choices or (),
            before=_before(program, prompt),
            content_free=tuple(one.written(order).going_on(prompt.begun) for one in self._content_free),
            key=None if version is None or prompt.begun else (version.tenant, version.digest, self._who),
        )

    async def _order_effect(self) -> OrderEffect:
        def asked(places: tuple[int, ...]) -> ChoiceQuestion:
            order = [self._order[place] for place in places]
            return self._question(self._prepared.draft.written(order), order)

        scoring = self._prepared.request.program.scoring
        return await orders.order_effects(
            self._choices, self._asker, len(self._order), asked, scoring, max_orders=scoring.orders
        )


async def _longer_by(asker: Asker, prompt: Written, others: Sequence[Written]) -> int:
    """Tokens that the longest of the other prompts has beyond those of the prompt."""
    sizes = [await asker.num_tokens(other) for other in others]
    return max(0, max(sizes) - await asker.num_tokens(prompt))


def _before(program: PromptProgram, prompt: Written) -> str:
    """What stands between the prompt and a choice, as between a demonstration's question and its answer."""
    before = prompt.begun or prompt.text or ""
    if not before or before[-1].isspace():
        return ""
    return program.demonstrating.before_answer if prompt.text is not None and not prompt.begun else " "


def task_of(prepared: Prepared, prompt: Written, choose: Choose | None) -> Task:
    """What is reasoned about, after a prompt that was prepared. `choose` is for an output of choices."""
    request, program = prepared.request, prepared.request.program
    withhold = request.withhold or program.reasoning.withhold
    return Task(
        prompt=prompt,
        reasoning=program.reasoning.model_copy(update={"withhold": withhold}),
        output=program.output,
        extraction=program.extraction,
        decoding=prepared.decoding,
        shows_rationales=_shows_rationales(program, prepared.fitted.shown),
        choose=choose,
        accept=_accept(prepared),
    )


def _accept(prepared: Prepared) -> Accept | None:
    """Of a strict program nothing is told before its claims were checked."""
    sourcing, found = prepared.request.program.sourcing, prepared.sources
    if sourcing is None or found is None or not sourcing.strict:
        return None

    def accept(answer: str) -> None:
        check(answer, found.passages, sourcing)

    return accept


def _shows_rationales(program: PromptProgram, shown: Sequence[int]) -> bool:
    return any(program.demonstrations[index].rationale is not None for index in shown)
