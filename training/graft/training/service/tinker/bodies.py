"""JSON that the SDK sends. Fields that are not known here are refused where they say something."""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from graft.training.service.learning.trainee import MIN_EPS, Adam
from graft.training.service.learning.turns import Asked
from graft.training.service.refusal import Kind, Refusal

BodyT = TypeVar("BodyT", bound="Body")
_Number = Annotated[float, Field(allow_inf_nan=False)]


class Body(BaseModel):
    """What of a request is looked at."""

    model_config = ConfigDict(extra="allow", protected_namespaces=())


class Session(Body):
    """Of a session."""

    session_id: str


class CreateSession(Body):
    """Tags, the release and what the user says of the session are not looked at."""

    tags: Any = None
    user_metadata: Any = None
    sdk_version: Any = None
    display_name: Any = None
    project_id: Any = None


class Lora(Body):
    """What adapter."""

    rank: int
    seed: int | None = None
    train_unembed: bool = True
    train_mlp: bool = True
    train_attn: bool = True


class Optimizer(Body):
    """Which optimizer; its numbers come with each step."""

    type: str = "adamw"


class CreateModel(Body):
    """A new training."""

    session_id: str
    model_seq_id: Annotated[int, Field(ge=0)]
    base_model: str
    lora_config: Lora | None = None
    optimizer_config: Optimizer = Optimizer()
    user_metadata: Any = None


class Model(Body):
    """Of a training."""

    model_id: str


class AdamParams(Body):
    """Numbers of one step."""

    learning_rate: Annotated[_Number, Field(ge=0)] = 1e-4
    beta1: Annotated[_Number, Field(ge=0, lt=1)] = 0.9
    beta2: Annotated[_Number, Field(ge=0, lt=1)] = 0.95
    eps: Annotated[_Number, Field(ge=MIN_EPS)] = 1e-12
    weight_decay: Annotated[_Number, Field(ge=0)] = 0.0
    grad_clip_norm: Annotated[_Number, Field(ge=0)] = 0.0
    """0 clips nothing."""

    @property
    def adam(self) -> Adam:
        return Adam(
            learning_rate=self.learning_rate,
            beta1=self.beta1,
            beta2=self.beta2,
            eps=self.eps,
            weight_decay=self.weight_decay,
            max_gradient_norm=self.grad_clip_norm or None,
        )


class Numbered(Body):
    """A training's request."""

    model_id: str
    seq_id: Annotated[int, Field(ge=1)]


class OptimStep(Numbered):
    """A step."""

    adam_params: AdamParams


class SaveWeights(Numbered):
    """A state that is to be kept."""

    path: str | None = None
    overwrite: bool = False
    ttl_seconds: Any = None
    user_metadata: Any = None


class LoadWeights(Body):
    """Into a training, or as a new one of a session."""

    model_id: str | None = None
    seq_id: int | None = None
    session_id: str | None = None
    model_seq_id: int | None = None
    base_model: str | None = None
    path: str
    optimizer: bool
    optimizer_config: Optimizer | None = None
    user_metadata: Any = None


class SaveForSampler(Numbered):
    """A version that is to be published."""

    path: str | None = None
    sampling_session_seq_id: int | None = None
    kind: str = "snapshot"
    ttl_seconds: Any = None
    user_metadata: Any = None


class CreateSampling(Body):
    """One who samples."""

    session_id: str
    sampling_session_seq_id: Annotated[int, Field(ge=0)]
    base_model: str | None = None
    model_path: str | None = None


class Sampling(Body):
    """Of one who samples."""

    sampling_session_id: str


class Retrieve(Body):
    """Which answer."""

    request_id: str
    allow_metadata_only: Any = None


class Weights(Body):
    """Of a state."""

    tinker_path: str


class Chunk(Body):
    """A piece of a text."""

    tokens: list[Annotated[int, Field(ge=0)]]


class Prompt(Body):
    """What is answered."""

    chunks: list[Chunk]


class SamplingParams(Body):
    """How it is."""

    max_tokens: Annotated[int, Field(ge=1)] | None = None
    seed: int | None = None
    stop: str | list[str] | list[int] | None = None
    temperature: Annotated[_Number, Field(ge=0)] = 1.0
    top_k: int = -1
    top_p: Annotated[_Number, Field(gt=0, le=1)] = 1.0


class Sample(Body):
    """What is to be sampled."""

    sampling_session_id: str
    seq_id: Annotated[int, Field(ge=0)]
    num_samples: Annotated[int, Field(ge=1)] = 1
    prompt: Prompt
    sampling_params: SamplingParams = SamplingParams()
    prompt_logprobs: bool | None = None
    prompt_logprobs_last_n: Annotated[int, Field(ge=1)] | None = None
    topk_sample_logprobs: Annotated[int, Field(ge=0)] = 0


def read(kind: type[BodyT], body: bytes) -> BodyT:
    """Raises ``Refusal`` with all that is wrong."""
    try:
        found = kind.model_validate_json(body or b"{}")
    except ValidationError as error:
        told = [f"{'.'.join(map(str, one['loc'])) or 'the body'}: {one['msg']}" for one in error.errors()[:5]]
        raise Refusal(Kind.INVALID, f"{'; '.join(told)}.") from None
    if unmet := _unmet(found, ""):
        raise Refusal(Kind.INVALID, f"not offered here: {', '.join(unmet)}; leave it out, or as it is by itself.")
    return found


def asked(number: int, body: bytes) -> Asked:
    """The request, whatever order its fields came in."""
    told = json.dumps(json.loads(body), sort_keys=True, separators=(",", ":")).encode()
    return Asked(number=number, digest=hashlib.sha256(told).digest(), num_bytes=len(body))


def _unmet(body: Body, at: str) -> list[str]:
    """Fields that say something nobody here looks at."""
    found = [f"{at}{name}" for name, value in (body.model_extra or {}).items() if value and name != "type"]
    for name in type(body).model_fields:
        value = getattr(body, name)
        for one in value if isinstance(value, list) else [value]:
            if isinstance(one, Body):
                found += _unmet(one, f"{at}{name}.")
    return found
