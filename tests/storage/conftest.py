"""Servers of a test's own, on every PostgreSQL that is installed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from fixtures.servers import (
    BINDIRS,
    end_servers,
    open_directory,
)
from holdfast.storage.server import EmbeddedPostgres
from holdfast.storage.server_binaries import server_version


@pytest.fixture(params=BINDIRS, ids=lambda bindir: "pg" + server_version(bindir))
def bindir(request: pytest.FixtureRequest) -> Path:
    """Each test runs on all PostgreSQL servers that are here."""
    path = request.param
    assert isinstance(path, Path)
    return path


@pytest.fixture
def base() -> Iterator[Path]:
    with open_directory() as path:
        yield path


@pytest.fixture(scope="session")
def shared() -> Iterator[Path]:
    with open_directory() as path:
        yield path


@pytest.fixture
def data_dir(shared: Path, bindir: Path) -> Iterator[Path]:
    """Data made by `bindir`, kept from test to test: initdb takes most of a test's time.

    A test that changes their files puts them back.
    """
    path = shared / server_version(bindir) / "data"
    if not path.exists():
        EmbeddedPostgres(path, bindir=bindir).start().stop()
    yield path
    end_servers(path)


@pytest.fixture
def server(data_dir: Path, bindir: Path) -> Iterator[EmbeddedPostgres]:
    """A server that is not started yet."""
    it = EmbeddedPostgres(data_dir, bindir=bindir)
    yield it
    it.stop()
