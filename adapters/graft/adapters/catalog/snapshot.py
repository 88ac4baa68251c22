"""An immutable picture of the catalog: requests resolve names here, so serving never waits for the database."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from graft.adapters.adapter import DEFAULT_TENANT, STABLE, AdapterVersion, Alias
from graft.adapters.catalog.fine_tuned import PREFIX as PREFIX_OF_FINE_TUNED
from graft.adapters.catalog.fine_tuned import FineTuned, name_of, no_model, read_name
from graft.adapters.digest import PREFIX, digest_prefix, unique_match
from graft.adapters.errors import InvalidReference, NotFound, Reason

_SHAPES = "<base>, <adapter>, <adapter>:<alias>, <adapter>@<number or digest>, ft:<base>:<tenant>:<suffix>:<job>"


@dataclass(frozen=True, kw_only=True)
class Resolved:
    """What a reference means now; all None for the bare base. `alias` is None when a version was named.

    `was_drawn` says that the adapter was named, and that its aliases' weights decided.
    """

    adapter: str | None
    version: AdapterVersion | None
    alias: str | None
    was_drawn: bool = False


Draw = float | Callable[[Sequence[Alias]], float]
"""Uniform in [0, 1), or what gives such a number for the aliases that have a weight."""


_MAX_NUMBERS = 5
BARE_BASE = Resolved(adapter=None, version=None, alias=None)
ANY_BASE = "base"
"""Names whatever base is served."""


def find_version(versions: Mapping[str, AdapterVersion], selector: str) -> AdapterVersion:
    """The version among `versions` (by digest) with this number, digest or unique prefix of 8 or more digits.

    Raises NotFound for none or several, InvalidReference for a malformed selector.
    """
    is_number = selector.isascii() and selector.isdigit()
    if is_number and len(selector) < 8:
        for version in versions.values():
            if version.number == int(selector):
                return version
        raise NotFound(f"there is no version {selector}")
    prefix = digest_prefix(selector)
    if prefix is None:
        problem = f"{selector[:100]!r} is neither a number nor a digest (8 hex digits or more)"
        raise InvalidReference("invalid version", [Reason(field="version", problem=problem)])
    if is_number and not any(digest.startswith(PREFIX + prefix) for digest in versions):
        raise NotFound(f"{selector} is no version's number, nor what a version's digest begins with")
    return versions[unique_match(prefix, set(versions), what="version")]


@dataclass(frozen=True, kw_only=True)
class AdapterEntry:
    """One adapter: its versions by digest, in order of their numbers, and its aliases by name, in order of those."""

    versions: Mapping[str, AdapterVersion]
    aliases: Mapping[str, Alias]


@dataclass(frozen=True, kw_only=True)
class CatalogSnapshot:
    """Adapters that have a version, by (tenant, name), as they were at one revision. Pure: no I/O, no clock."""

    base_name: str
    entries: Mapping[tuple[str, str], AdapterEntry] = field(default_factory=dict)
    revision: int = 0
    """What the catalog counted up to; 0 before anything was read."""
    fine_tuned: Mapping[tuple[str, str], FineTuned] = field(default_factory=dict)
    """What jobs have made, by tenant and the part of the job's id that stands in names."""

    def with_adapters(
        self,
        names: Iterable[tuple[str, str]],
        versions: Iterable[AdapterVersion],
        aliases: Iterable[Alias],
        *,
        revision: int,
    ) -> CatalogSnapshot:
        """The adapters `names` replaced by what they have now, deleted where that is no version; the others stay."""
        versions_of: dict[tuple[str, str], dict[str, AdapterVersion]] = {}
        aliases_of: dict[tuple[str, str], dict[str, Alias]] = {}
        for version in versions:
            versions_of.setdefault((version.tenant, version.adapter), {})[version.digest] = version
        for alias in sorted(aliases, key=lambda alias: alias.name):
            aliases_of.setdefault((alias.tenant, alias.adapter), {})[alias.name] = alias
        entries = dict(self.entries)
        for name in names:
            entries.pop(name, None)
        for name, found in versions_of.items():
            entries[name] = AdapterEntry(versions=found, aliases=aliases_of.get(name, {}))
        ordered = MappingProxyType(dict(sorted(entries.items(), key=lambda entry: entry[0])))
        return replace(self, entries=ordered, revision=revision)

    @property
    def versions(self) -> Iterator[AdapterVersion]:
        """All tenants' versions, by tenant, adapter and number."""
        return (version for entry in self.entries.values() for version in entry.versions.values())

    @property
    def aliases(self) -> Iterator[Alias]:
        """All tenants' aliases, by tenant, adapter and name."""
        return (alias for entry in self.entries.values() for alias in entry.aliases.values())

    def versions_of(self, tenant: str, adapter: str) -> tuple[AdapterVersion, ...]:
        """The adapter's versions, without a look at the others'."""
        entry = self.entries.get((tenant, adapter))
        return tuple(entry.versions.values()) if entry else ()

    def aliases_of(self, tenant: str, adapter: str) -> tuple[tuple[Alias, AdapterVersion], ...]:
        """The adapter's aliases by name, and what they point at."""
        entry = self.entries.get((tenant, adapter))
        if entry is None:
            return ()
        return tuple((alias, entry.versions[alias.version_digest]) for alias in entry.aliases.values())

    def resolve(self, reference: str, *, tenant: str = DEFAULT_TENANT, draw: Draw = 0.0) -> Resolved:
        """What `reference` means for `tenant`.

        `draw` decides which alias answers a bare adapter name.
        Raises NotFound, which names no other tenant's adapters, and InvalidReference.
        """
        if reference in (self.base_name, ANY_BASE):
            return BARE_BASE
        if reference.startswith(PREFIX_OF_FINE_TUNED):
            return self._fine_tuned(reference, tenant)
        name, at, selector = reference.partition("@")
        if at:
            entry = self._entry(name, tenant, reference)
            version = _named(reference, entry.versions, selector)
            return Resolved(adapter=name, version=version, alias=None)
        name, colon, alias = reference.partition(":")
        entry = self._entry(name, tenant, reference)
        return _by_alias(name, entry, alias) if colon else _by_weights(name, entry, draw)

    def _entry(self, name: str, tenant: str, reference: str) -> AdapterEntry:
        entry = self.entries.get((tenant, name))
        if entry is None:
            raise no_model(reference, f"no base or adapter of this name; references look like {_SHAPES}")
        return entry

    def _fine_tuned(self, reference: str, tenant: str) -> Resolved:
        name = read_name(reference, base=self.base_name)
        made = self.fine_tuned.get((tenant, name.job))
        # Who asks has a tenant already: a name that tells another's is nobody's model here.
        if made is None or name.tenant != tenant:
            raise no_model(reference, "no job of yours is called so; the job's fine_tuned_model is its model's name")
        if name.suffix != made.suffix:
            known = name_of(base=self.base_name, tenant=tenant, suffix=made.suffix, job=name.job)
            raise no_model(reference, f"the model of that job is called {known}")
        if name.version is not None:
            return self.resolve(f"{made.adapter}@{name.version}", tenant=tenant)
        if name.alias is not None and name.step is None:
            return self.resolve(f"{made.adapter}:{name.alias}", tenant=tenant)
        digest = made.digest_of(name, reference)
        entry = self.entries.get((tenant, made.adapter))
        if entry is None or digest not in entry.versions:
            raise no_model(reference, f"its version {digest} of the adapter {made.adapter} was deleted")
        return Resolved(adapter=made.adapter, version=entry.versions[digest], alias=None)


def _named(reference: str, versions: Mapping[str, AdapterVersion], selector: str) -> AdapterVersion:
    try:
        return find_version(versions, selector)
    except (NotFound, InvalidReference) as error:
        problem = error.reasons[0].problem if error.reasons else error.message
        numbers = ", ".join(map(str, sorted(version.number for version in versions.values())[-_MAX_NUMBERS:]))
        reason = Reason(field="model", problem=problem, remedy=f"the latest versions: {numbers}")
        raise type(error)(f"the model {reference[:200]!r} does not exist", [reason]) from None


def _by_alias(name: str, entry: AdapterEntry, alias: str) -> Resolved:
    pointer = entry.aliases.get(alias)
    if pointer is None:
        known = ", ".join(entry.aliases) or "none"
        remedy = f"set the alias, or name a version as {name}@<number>"
        problem = f"{name} has no alias {alias[:100]!r}; its aliases: {known}"
        raise NotFound(
            f"the model '{name}:{alias[:100]}' does not exist",
            [Reason(field="model", problem=problem, remedy=remedy)],
        )
    return Resolved(adapter=name, version=entry.versions[pointer.version_digest], alias=alias)


def _by_weights(name: str, entry: AdapterEntry, draw: Draw) -> Resolved:
    """By the alias that answers the bare name: draws below the cumulated weights go to the weighted aliases."""
    weighted = [alias for alias in entry.aliases.values() if alias.name != STABLE and alias.weight_percent]
    share = draw(weighted) if callable(draw) and weighted else draw
    edge_percent, drawn = 0, STABLE
    for alias in weighted:
        edge_percent += alias.weight_percent
        if not callable(share) and share < edge_percent / 100:
            drawn = alias.name
            break
    return replace(_by_alias(name, entry, drawn), was_drawn=True)
