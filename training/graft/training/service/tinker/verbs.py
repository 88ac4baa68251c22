"""What the SDK may ask for, but for answers to what takes time: from a request's body to a reply."""

from __future__ import annotations

import hashlib
from typing import Any

from google.protobuf.message import DecodeError

from graft.training.service.learning.shape import Shape
from graft.training.service.learning.turns import Asked
from graft.training.service.refusal import Kind, Refusal
from graft.training.service.sessions.kept import Version
from graft.training.service.sessions.served import Caller
from graft.training.service.sessions.session import TRAIN
from graft.training.service.sessions.sessions import Sessions
from graft.training.service.tinker import bodies
from graft.training.service.tinker.paths import STATE, VERSION, parts_of, path_of
from graft.training.service.tinker.tensors import lesson_of
from graft.training.service.tinker.wishes import wish_of
from graft.v1.tinker_pb2 import Tinker

Reply = dict[str, Any]
CONFIG: Reply = {
    "pjwt_auth_enabled": False,
    "proto_compress_fwdbwd": False,
    "proto_write_fwdbwd": True,
    "sample_join_sampling_session": True,
    "sample_use_retrieve_futures": False,
    "custom_loss_server_side": False,
}
"""Flags of what is here; all others are as the SDK has them by itself."""
_HEAD = "the output head does not learn (train_unembed): no server takes an adapter on it."


class Verbs:
    """Called from several threads."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions
        self._held, self._kept = sessions.place.held, sessions.place.kept
        self._max_tokens = sessions.place.limits.max_text_tokens

    def capabilities(self, caller: Caller, body: bytes) -> Reply:
        base = {"model_name": self._held.base.name, "max_context_length": self._max_tokens}
        return {"supported_models": [{**base, "trainable": True, "sampleable": True}]}

    def create_session(self, caller: Caller, body: bytes) -> Reply:
        bodies.read(bodies.CreateSession, body)
        return {"session_id": self._sessions.open(caller).id, "type": "create_session", "warning_message": _HEAD}

    def heartbeat(self, caller: Caller, body: bytes) -> Reply:
        try:
            self._sessions.get(caller, bodies.read(bodies.Session, body).session_id)
        except Refusal as refusal:
            # Then the SDK lets it be.
            raise Refusal(Kind.GONE, str(refusal)) from None
        return {"type": "session_heartbeat"}

    def finish(self, caller: Caller, id: str) -> Reply:
        self._sessions.finish(caller, id)
        return {}

    def create_model(self, caller: Caller, body: bytes) -> Reply:
        said = bodies.read(bodies.CreateModel, body)
        self._check_base(said.base_model)
        self._check_optimizer(said.optimizer_config)
        if said.lora_config is None:
            raise Refusal(Kind.INVALID, "lora_config is missing: adapters are all that is trained here.")
        lora = said.lora_config
        seed = int.from_bytes(hashlib.sha256(said.session_id.encode()).digest()[:4]) if lora.seed is None else lora.seed
        shape = Shape(rank=lora.rank, seed=seed, attention=lora.train_attn, feedforward=lora.train_mlp)
        id, asked = f"{said.session_id}{TRAIN}{said.model_seq_id}", bodies.asked(0, body)
        answer = {"model_id": id, "type": "create_model"}
        self._sessions.begin(caller, said.session_id, said.model_seq_id, asked, shape, answer=answer)
        return _begun(id, 0)

    def get_info(self, caller: Caller, body: bytes) -> Reply:
        training = self._sessions.training(caller, bodies.read(bodies.Model, body).model_id)
        name = self._held.base.name
        rank = None if training.shape is None else training.shape.rank
        return {
            "type": "get_info",
            "model_data": {"arch": self._held.adaptable.model_type, "model_name": name},
            "model_id": training.id,
            "model_name": name,
            "is_lora": True,
            "lora_rank": rank,
        }

    def forward_backward(self, caller: Caller, body: bytes) -> Reply:
        try:
            request = Tinker.ForwardBackwardRequest.FromString(body)
        except DecodeError:
            raise Refusal(
                Kind.INVALID,
                "the body is no ForwardBackwardRequest in protobuf: take release 0.26 of tinker or a later one.",
            ) from None
        training = self._sessions.training(caller, request.model_id)
        if request.seq_id < 1:
            raise Refusal(Kind.INVALID, f"seq_id is {request.seq_id}; requests are numbered from 1.")
        lesson = lesson_of(request, num_tokens=self._held.num_tokens, max_tokens=self._max_tokens)
        digest = hashlib.sha256(request.SerializeToString(deterministic=True)).digest()
        asked = Asked(number=request.seq_id, digest=digest, num_bytes=len(body))
        training.learn(asked, lesson, forward_only=request.forward_only)
        return _begun(training.id, request.seq_id)

    def optim_step(self, caller: Caller, body: bytes) -> Reply:
        said = bodies.read(bodies.OptimStep, body)
        self._sessions.training(caller, said.model_id).move(bodies.asked(said.seq_id, body), said.adam_params.adam)
        return _begun(said.model_id, said.seq_id)

    def save_weights(self, caller: Caller, body: bytes) -> Reply:
        said = bodies.read(bodies.SaveWeights, body)
        training, name = self._sessions.training(caller, said.model_id), said.path or f"{said.seq_id}"
        path = path_of(training.id, STATE, name)
        self._kept.check_name(name)
        training.save(
            bodies.asked(said.seq_id, body),
            name,
            overwrite=said.overwrite,
            answer={"path": path, "type": "save_weights"},
        )
        return _begun(training.id, said.seq_id)

    def load_weights(self, caller: Caller, body: bytes) -> Reply:
        said = bodies.read(bodies.LoadWeights, body)
        origin = parts_of(said.path, STATE)
        if said.optimizer_config is not None:
            self._check_optimizer(said.optimizer_config)
        if said.base_model is not None:
            self._check_base(said.base_model)
        if said.session_id is not None and said.model_seq_id is not None:
            id = f"{said.session_id}{TRAIN}{said.model_seq_id}"
            self._sessions.go_on(
                caller,
                said.session_id,
                said.model_seq_id,
                bodies.asked(0, body),
                origin,
                with_optimizer=said.optimizer,
                answer={"path": said.path, "model_id": id, "type": "load_weights"},
            )
            return _begun(id, 0)
        if said.model_id is None or said.seq_id is None:
            raise Refusal(Kind.INVALID, "say model_id and seq_id, or session_id and model_seq_id.")
        training, folder = self._sessions.training(caller, said.model_id), self._kept.state(caller, *origin)
        answer = {"path": said.path, "model_id": training.id, "type": "load_weights"}
        training.load(bodies.asked(said.seq_id, body), folder, with_optimizer=said.optimizer, answer=answer)
        return _begun(training.id, said.seq_id)

    def save_for_sampler(self, caller: Caller, body: bytes) -> Reply:
        said = bodies.read(bodies.SaveForSampler, body)
        training = self._sessions.training(caller, said.model_id)
        if said.kind != "snapshot":
            raise Refusal(
                Kind.INVALID, f"kind {said.kind!r} is not offered: a version is never changed here; take 'snapshot'."
            )
        if said.path is not None:
            self._kept.check_name(said.path)
        session = training.id.partition(":")[0]

        def done(version: Version) -> Reply:
            if said.path is not None:
                return {"path": path_of(training.id, VERSION, said.path), "type": "save_weights_for_sampler"}
            number = said.seq_id if said.sampling_session_seq_id is None else said.sampling_session_seq_id
            sampler = self._sessions.new_sampler(caller, session, number, version)
            return {"sampling_session_id": sampler.id, "type": "save_weights_for_sampler"}

        training.publish(bodies.asked(said.seq_id, body), said.path, done)
        return _begun(training.id, said.seq_id)

    def create_sampling(self, caller: Caller, body: bytes) -> Reply:
        said = bodies.read(bodies.CreateSampling, body)
        if said.base_model is not None:
            self._check_base(said.base_model)
        version = None
        if said.model_path is not None:
            version = self._kept.version(caller, *parts_of(said.model_path, VERSION))
        sampler = self._sessions.new_sampler(caller, said.session_id, said.sampling_session_seq_id, version)
        return {"sampling_session_id": sampler.id, "type": "create_sampling_session"}

    def join_sampling(self, caller: Caller, body: bytes) -> Reply:
        sampler = self._sessions.sampler(caller, bodies.read(bodies.Sampling, body).sampling_session_id)
        return {"client_counter": sampler.join(), "type": "join_sampling_session"}

    def sampler(self, caller: Caller, id: str) -> Reply:
        version = self._sessions.sampler(caller, id).version
        path = None if version is None or version.name is None else path_of(version.training, VERSION, version.name)
        return {"sampler_id": id, "base_model": self._held.base.name, "model_path": path}

    def sample(self, caller: Caller, body: bytes) -> Reply:
        said = bodies.read(bodies.Sample, body)
        sampler = self._sessions.sampler(caller, said.sampling_session_id)
        wish = wish_of(said, num_tokens=self._held.num_tokens, max_tokens=self._max_tokens)
        sampler.ask(bodies.asked(said.seq_id, body), wish)
        ids = [f"{sampler.id}:{said.seq_id}:{number}" for number in range(said.num_samples)]
        return {**_begun(sampler.id, said.seq_id), "model_id": None, "sample_sequence_ids": ids}

    def weights_info(self, caller: Caller, body: bytes) -> Reply:
        path = bodies.read(bodies.Weights, body).tinker_path
        shape = self._sessions.shape_of(caller, *parts_of(path, STATE))
        return {
            "base_model": self._held.base.name,
            "is_lora": True,
            "lora_rank": shape.rank,
            "train_unembed": False,
            "train_mlp": shape.feedforward,
            "train_attn": shape.attention,
        }

    def telemetry(self, caller: Caller, body: bytes) -> Reply:
        return {"status": "accepted"}

    def config(self, caller: Caller, body: bytes) -> Reply:
        return CONFIG

    def dynamic_config(self, caller: Caller, body: bytes) -> Reply:
        return {"refresh_interval_sec": 3600, "sample_cancel_enabled": False}

    def _check_base(self, name: str) -> None:
        base = self._held.base
        if name not in (base.name, base.digest):
            raise Refusal(Kind.NOT_FOUND, f"there is no base {name!r} here; this trainer holds {base.name}.")

    def _check_optimizer(self, said: bodies.Optimizer) -> None:
        if said.type != "adamw":
            raise Refusal(Kind.INVALID, f"the optimizer {said.type!r} is not offered; take adamw.")


def _begun(id: str, number: int) -> Reply:
    """What is asked about at ``retrieve_future``."""
    return {"request_id": f"{id}:{number}", "model_id": id}
