"""Whose a request is: its tenant, found where it comes in."""

from __future__ import annotations

import base64
import hashlib
import json
import logging
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from graft.adapters.adapter import DEFAULT_TENANT
from graft.adapters.errors import InvalidReference
from graft.adapters.names import NAME_GRAMMAR, check_name
from graft.adapters.text.file import read_text
from graft.adapters.text.problems import UnreadableText
from graft.server.errors import Unauthenticated
from graft.server.settings.settings import InvalidSetting

Identify = Callable[[str | None], str]
"""The tenant of a request with this `authorization`, if it has one. Raises `Unauthenticated`."""

HEADER = "authorization"
_MAX_NAMED = 20
_log = logging.getLogger(__name__)
_TOKEN = re.compile(r"[A-Za-z0-9._~+/-]+=*\Z", re.ASCII)  # RFC 6750, section 2.1


def identify_by(tenants: Mapping[str, str]) -> Identify:
    """By these tokens; where there are none, every request is the default tenant's."""
    return TokenTenants(tenants) if tenants else lambda authorization: DEFAULT_TENANT


class TokenTenants:
    """`Authorization: Bearer <token>` names the tenant; so does `Basic`, whose password is the token then.

    Only digests of the tokens are kept.
    """

    def __init__(self, tenants: Mapping[str, str]) -> None:
        self._tenants = {_digest(token): tenant for token, tenant in tenants.items()}

    def __call__(self, authorization: str | None) -> str:
        scheme, _, token = (authorization or "").strip().partition(" ")
        if scheme.lower() == "basic":
            token = _password(token)
        elif scheme.lower() != "bearer":
            raise Unauthenticated("authorization: is missing: send `Bearer` and a token of this server")
        tenant = self._tenants.get(_digest(token.strip()))
        if tenant is None:
            raise Unauthenticated("authorization: the token is unknown to this server")
        return tenant


def read_tenants(path: Path) -> dict[str, str]:
    """Tenants by token, of a JSON or YAML file `<token>: <tenant>`. Raises `InvalidSetting`, which names no token."""
    try:
        pairs = _pairs(path.suffix.lower(), read_text(path.expanduser()))
    except (UnreadableText, ValueError) as error:
        raise InvalidSetting(f"tenants_file {path}: {error}") from None
    except RecursionError:
        raise InvalidSetting(f"tenants_file {path}: is nested too deep for a list of tokens") from None
    tenants: dict[str, str] = {}
    for number, (token, tenant) in enumerate(pairs, start=1):
        if problem := _problem(token, tenant, tenants):
            raise InvalidSetting(f"tenants_file {path}: entry {number}: {problem}")
        tenants[token] = tenant
    if not tenants:
        raise InvalidSetting(f"tenants_file {path}: names no token; give one per tenant as `<token>: <tenant>`")
    return tenants


def _problem(token: Any, tenant: Any, before: Mapping[str, str]) -> str | None:
    if not isinstance(token, str) or not _TOKEN.match(token):
        return "the token is no text of letters, digits and -._~+/, as a header takes it"
    if token in before:
        return "the token stands there twice"
    try:
        check_name(tenant, what="tenant")
    except InvalidReference:
        return f"the tenant is no name; names match {NAME_GRAMMAR} and hold no '..'"
    return None


def _pairs(kind: str, text: str) -> list[tuple[Any, Any]]:
    """The entries as they stand there, one that is repeated too. Raises ValueError."""
    if kind == ".json":
        pairs = json.loads(text, object_pairs_hook=tuple)
        if not isinstance(pairs, tuple):
            raise ValueError("must hold an object `{<token>: <tenant>}`")
        return list(pairs)
    if kind in (".yaml", ".yml"):
        return _yaml_pairs(text)
    raise ValueError("is neither .json nor .yaml")


def _yaml_pairs(text: str) -> list[tuple[Any, Any]]:
    import yaml  # type: ignore[import-untyped]  # comes with vLLM; its stubs are a distribution of their own

    try:
        root = yaml.compose(text, yaml.SafeLoader)
    except yaml.YAMLError as error:
        place = getattr(error, "problem_mark", None)
        raise ValueError(f"is not YAML{f' in line {place.line + 1}' if place else ''}") from None
    if root is not None and not isinstance(root, yaml.MappingNode):
        raise ValueError("must hold entries `<token>: <tenant>`")
    return [(key.value, value.value) for key, value in root.value] if root is not None else []


def _password(credentials: str) -> str:
    """Of RFC 7617's user-id and password; empty where there is none, which is no token."""
    try:
        _, _, password = base64.b64decode(credentials.strip(), validate=True).decode().partition(":")
    except ValueError:
        return ""
    return password


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode(errors="replace")).digest()


def check_worker_tenant(name: str | None, tenants: Mapping[str, str]) -> None:
    """That somebody can be a worker by this name, and warn where nobody can. Raises `InvalidSetting`."""
    known = sorted(set(tenants.values()))
    if name is not None and name not in known:
        there = f"tenants_file has {', '.join(known[:_MAX_NAMED])}" if known else "there is no tenants_file"
        raise InvalidSetting(f"worker_tenant {name}: is the tenant of no token: {there}; name one of its tenants")
    if known and name is None:
        _log.warning("nobody may work on jobs: there is a tenants_file and no worker_tenant; set it to the workers'")
