"""Who has been served how much: virtual token counters of tenants, and of each tenant's adapters. Pure.

Sheng et al., "Fairness in Serving Large Language Models", OSDI 2024, arXiv:2401.00588 (VTC): each client has a counter
of the service it got, the next to be served is the one whose counter is smallest, and a client that begins to wait is
lifted to the smallest counter among those who wait already, so that nobody saves up credit while idle. Service counts
prompt tokens once and generated tokens twice, as in the paper. Two clients that wait all the time thus differ by no
more than what runs at once, whatever their requests' sizes.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field

# Of clients without any request, so many keep their counter: debts are remembered, a million names are not.
_MAX_IDLE = 256


@dataclass(frozen=True, kw_only=True)
class Client:
    """One of a tenant's adapters; the base is the adapter without a name."""

    tenant: str
    adapter: str = ""


def service_of(*, prompt_tokens: int, generated_tokens: int) -> float:
    """The paper's weights: a generated token costs about twice as much as one that is read."""
    return prompt_tokens + 2 * generated_tokens


@dataclass(kw_only=True)
class _Account:
    service: float
    num_waiting: int = 0
    num_running: int = 0


@dataclass(kw_only=True)
class Counters:
    """One level: service by name."""

    _accounts: dict[str, _Account] = field(default_factory=dict)
    _idle: OrderedDict[str, float] = field(default_factory=OrderedDict)
    # The counter of the last that waited, for the time when nobody waits.
    _last: float = 0.0

    def __len__(self) -> int:
        """How many names are remembered."""
        return len(self._accounts) + len(self._idle)

    def __getitem__(self, name: str) -> float:
        return self._accounts[name].service

    def waits(self, name: str) -> None:
        """A request of `name` begins to wait."""
        account = self._accounts.get(name)
        if account is None:
            account = self._accounts[name] = _Account(service=self._idle.pop(name, 0.0))
        if not account.num_waiting:
            account.service = max(account.service, self._floor())
        account.num_waiting += 1

    def starts(self, name: str) -> None:
        """One that waited runs now."""
        self._accounts[name].num_running += 1
        self._waits_no_more(name)

    def gives_up(self, name: str) -> str | None:
        """One that waited has gone. Returns the name that is forgotten for it, if any."""
        self._waits_no_more(name)
        return self._rest(name)

    def ends(self, name: str) -> str | None:
        """One that ran has ended. Returns the name that is forgotten for it, if any."""
        self._accounts[name].num_running -= 1
        return self._rest(name)

    def charge(self, name: str, service: float) -> None:
        """Count service; less than 0 gives back what was charged ahead."""
        self._accounts[name].service += service

    def _floor(self) -> float:
        return min((each.service for each in self._accounts.values() if each.num_waiting), default=self._last)

    def _waits_no_more(self, name: str) -> None:
        account = self._accounts[name]
        account.num_waiting -= 1
        self._last = account.service

    def _rest(self, name: str) -> str | None:
        account = self._accounts[name]
        if account.num_waiting or account.num_running:
            return None
        self._idle[name] = self._accounts.pop(name).service
        return self._idle.popitem(last=False)[0] if len(self._idle) > _MAX_IDLE else None


class Fairness:
    """Two levels: tenants share the engine, each tenant's adapters share what their tenant gets."""

    def __init__(self) -> None:
        self._tenants = Counters()
        self._adapters: dict[str, Counters] = {}

    def __len__(self) -> int:
        """How many counters are kept."""
        return len(self._tenants) + sum(len(each) for each in self._adapters.values())

    def waits(self, client: Client) -> None:
        """A request of `client` begins to wait. Each later `starts` or `gives_up`; what started `ends`."""
        self._tenants.waits(client.tenant)
        self._adapters.setdefault(client.tenant, Counters()).waits(client.adapter)

    def starts(self, client: Client) -> None:
        self._tenants.starts(client.tenant)
        self._adapters[client.tenant].starts(client.adapter)

    def gives_up(self, client: Client) -> None:
        self._adapters[client.tenant].gives_up(client.adapter)
        self._forget(self._tenants.gives_up(client.tenant))

    def ends(self, client: Client) -> None:
        self._adapters[client.tenant].ends(client.adapter)
        self._forget(self._tenants.ends(client.tenant))

    def charge(self, client: Client, service: float) -> None:
        """Count what a client that waits or runs was served."""
        self._tenants.charge(client.tenant, service)
        self._adapters[client.tenant].charge(client.adapter, service)

    def order(self, client: Client) -> tuple[float, str, float]:
        """The smallest comes first: the least served tenant, and of its adapters the least served."""
        return self._tenants[client.tenant], client.tenant, self._adapters[client.tenant][client.adapter]

    def ahead(self, one: Client, other: Client) -> float:
        """By how much `one` was served more than `other`, on the level where they compete."""
        if one.tenant != other.tenant:
            return self._tenants[one.tenant] - self._tenants[other.tenant]
        adapters = self._adapters[one.tenant]
        return adapters[one.adapter] - adapters[other.adapter]

    def _forget(self, tenant: str | None) -> None:
        if tenant is not None:
            del self._adapters[tenant]
