"""Jobs in the database: who gets which."""

from __future__ import annotations

import threading
from collections import Counter
from pathlib import Path

from graft.adapters.errors import GraftError
from tests.server.jobs.keeping import WORKER, KeptJobs, holder


def test_two_hundred_jobs_of_four_tenants_are_claimed_in_turns(kept: KeptJobs) -> None:
    tenants = [kept.tenant(name) for name in ("a", "b", "c", "d")]
    for tenant in tenants:
        file = kept.file(tenant)
        for _ in range(50):
            kept.queued(tenant, training_file=file)
    order = []
    for _ in range(200):
        job = kept.claimed()
        order.append(job.tenant)
        kept.catalog.finish(holder(job), kept.result(job))
    for begin in range(0, 200, 4):
        assert sorted(order[begin : begin + 4]) == tenants


def test_epochs_cost_the_same_in_a_number_and_as_what_auto_most_often_is(kept: KeptJobs) -> None:
    asked: dict[str, dict[str, int | str]] = {
        kept.tenant("a"): {},
        kept.tenant("b"): {"n_epochs": "auto"},
        kept.tenant("c"): {"n_epochs": 3},
    }
    for _ in range(4):
        for tenant, hyperparameters in asked.items():
            kept.queued(tenant, hyperparameters=hyperparameters)
    order = [kept.claimed().tenant for _ in range(12)]
    for begin in range(0, 12, 3):
        assert sorted(order[begin : begin + 3]) == ["a", "b", "c"]


def test_many_workers_at_once_never_get_one_job(tmp_path: Path) -> None:
    """Two servers on one database, four workers on each."""
    url = f"sqlite:///{tmp_path}/c.db"
    servers = [KeptJobs(url), KeptJobs(url)]
    for _ in range(12):
        servers[0].queued()
    got: list[tuple[str, int]] = []

    def work(kept: KeptJobs, name: str) -> None:
        while True:
            try:
                job = kept.catalog.claim(name, tenant=WORKER)
            except GraftError:  # the other server's write took too long
                continue
            if job is None:
                return
            got.append((job.id, job.fence))

    threads = [threading.Thread(target=work, args=(servers[n % 2], f"w{n}")) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert Counter(got).most_common(1)[0][1] == 1 and len(got) == 12 and {fence for _, fence in got} == {1}
    for kept in servers:
        kept.database.close()
