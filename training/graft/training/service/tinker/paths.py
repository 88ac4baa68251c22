"""``tinker://<training>/<kind>/<name>``: where states and versions are said to lie."""

from __future__ import annotations

from graft.training.service.refusal import Kind, Refusal

STATE, VERSION = "weights", "sampler_weights"
_SCHEME = "tinker://"


def path_of(training: str, kind: str, name: str) -> str:
    return f"{_SCHEME}{training}/{kind}/{name}"


def parts_of(path: str, kind: str) -> tuple[str, str]:
    """The training's id, and the name. Raises ``Refusal`` where a path is none of that kind."""
    parts = path.removeprefix(_SCHEME).split("/")
    if not path.startswith(_SCHEME) or len(parts) != 3 or parts[1] != kind:
        raise Refusal(Kind.INVALID, f"{path!r} is no path of the form {_SCHEME}TRAINING/{kind}/NAME.")
    return parts[0], parts[2]
