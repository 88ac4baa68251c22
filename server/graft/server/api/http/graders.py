"""`/v1/fine_tuning/alpha/graders`, as OpenAI has them: is a grader sound, and what does it say of an answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from time import perf_counter
from typing import Any

from starlette.requests import Request
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from graft.server.api.http.body import BodyBudget, JsonResponse, json_object, read_body
from graft.server.api.http.sse import until_gone
from graft.server.grading.grade import KINDS, Grade
from graft.server.grading.graders import Grader, type_of
from graft.server.grading.grading import Grading
from graft.server.grading.observation import Observation
from graft.server.grading.reading import read_grader
from graft.server.runtime.violations import Violations, shown

_PATH = "/v1/fine_tuning/alpha/graders"
# What the type says in words beside a flag; the others' words are ours, in `error_details`.
_DETAILED = {
    "model_grader_server": "model_grader_server_error_details",
    "python_grader_runtime": "python_grader_runtime_error_details",
    "python_grader_server": "python_grader_server_error_type",
}


@dataclass(frozen=True, kw_only=True)
class GraderRoutes:
    """Both routes."""

    grading: Grading
    max_body_bytes: int
    bodies: BodyBudget

    def routes(self) -> list[Route]:
        return [
            Route(f"{_PATH}/validate", _Endpoint(self, validates=True), methods=["POST"]),
            Route(f"{_PATH}/run", _Endpoint(self, validates=False), methods=["POST"]),
        ]


@dataclass(frozen=True)
class _Endpoint:
    """One route, as an ASGI application."""

    shared: GraderRoutes
    validates: bool

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self.shared.bodies.share() as take:
            request = Request(scope, receive)
            raw = await read_body(request, max_bytes=self.shared.max_body_bytes, take=take)
            body = json_object(raw)
            answering = self._validated(body) if self.validates else self._ran(body)
            answer = await until_gone(request.receive, answering)
            await JsonResponse(answer)(scope, receive, send)

    async def _validated(self, body: Mapping[str, Any]) -> dict[str, Any]:
        violations = Violations()
        _only(body, ("grader",), violations)
        grader = self._grader(body, violations)
        if grader is not None:
            await self.shared.grading.check(grader, violations)
        violations.raise_any()
        return {"grader": body["grader"]}

    async def _ran(self, body: Mapping[str, Any]) -> dict[str, Any]:
        violations = Violations()
        _only(body, ("grader", "model_sample", "item"), violations)
        sample, item = body.get("model_sample"), body.get("item")
        if not isinstance(sample, str):
            problem = "is missing" if sample is None else f"is {shown(sample)}; it must be a text"
            violations.add("model_sample", problem)
        if item is not None and not isinstance(item, Mapping):
            violations.add("item", f"is {shown(item)}; it must be an object")
        grader = self._grader(body, violations)
        violations.raise_any()
        assert grader is not None and isinstance(sample, str)
        began = perf_counter()
        grade = await self.shared.grading.grade(grader, Observation(output_text=sample, item=item or {}))
        return _response(grader, grade, perf_counter() - began)

    def _grader(self, body: Mapping[str, Any], violations: Violations) -> Grader | None:
        if body.get("grader") is None:
            violations.add("grader", "is missing")
            return None
        return read_grader(body["grader"], self.shared.grading.allowed, violations)


def _only(body: Mapping[str, Any], names: tuple[str, ...], violations: Violations) -> None:
    for name in violations.until_full(sorted(body.keys() - set(names))):
        violations.add(name[:64], f"is not known; there are {', '.join(names)}")


def _response(grader: Grader, grade: Grade, seconds: float) -> dict[str, Any]:
    """As openai/types/fine_tuning/alpha/grader_run_response.py has it, and `error_details` beside it."""
    return {
        "reward": grade.reward,
        "sub_rewards": dict(grade.sub_rewards),
        "metadata": {
            "name": grader.name,
            "type": type_of(grader),
            "errors": _errors(grade),
            "execution_time": seconds,
            "scores": dict(grade.sub_rewards) or {grader.name: grade.reward},
            "sampled_model_name": None,
            "token_usage": sum(grade.tokens_by_model.values()) if grade.tokens_by_model else None,
        },
        "model_grader_token_usage_per_model": dict(grade.tokens_by_model),
    }


def _errors(grade: Grade) -> dict[str, Any]:
    kinds = {fault.kind for fault in grade.faults}
    errors: dict[str, Any] = {f"{kind}_error": kind in kinds for kind in KINDS}
    for kind, name in _DETAILED.items():
        said = [fault.details for fault in grade.faults if fault.kind == kind]
        errors[name] = "\n".join(said) or None
    errors["error_details"] = [f"{fault.grader}: {fault.details}" for fault in grade.faults]
    return errors
