"""A tiny base, a store and a catalog for the tests of this room."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from graft.adapters.accepting import accept_folder
from graft.adapters.adapter import AdapterVersion
from graft.adapters.base.base import Base
from graft.adapters.catalog.catalog import Catalog
from graft.adapters.form import ServingForm
from graft.adapters.store.store import BlobStore
from tests.adapters.making import LIMITS, make_base


@pytest.fixture
def tmp_path(tmp_path: Path) -> Iterator[Path]:
    """A folder in memory where there is one: these tests flush thousands of small files and transactions."""
    memory = Path("/dev/shm")
    if not os.access(memory, os.W_OK):
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir=memory, prefix="graft-test-") as folder:
        yield Path(folder)


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Base:
    """The base that every adapter of these tests is for."""
    return make_base(tmp_path_factory.mktemp("bases") / "tiny")


@pytest.fixture
def catalog(tmp_path: Path) -> Iterator[Catalog]:
    """An empty catalog."""
    opened = Catalog.open(f"sqlite:///{tmp_path}/catalog.db")
    yield opened
    opened.close()


@pytest.fixture
def store(tmp_path: Path) -> BlobStore:
    """An empty local store."""
    return BlobStore(str(tmp_path / "store"), local_dir=tmp_path / "local")


@pytest.fixture
def accept(catalog: Catalog, store: BlobStore, base: Base) -> Callable[..., AdapterVersion]:
    """`accept_folder` on the tiny base, held as NF4."""
    return partial(
        accept_folder,
        catalog=catalog,
        store=store,
        base=base,
        serving_form=ServingForm.NF4,
        limits=LIMITS,
        tenant="default",
        adapter="joe",
    )
