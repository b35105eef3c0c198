"""One server for the whole run; a fresh database, copied from a template, for each measurement."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import psycopg

from bench.processes import cpu_of_tree
from bench.systems import DoesNotRun, Facts, install
from holdfast import EmbeddedPostgres


@dataclass
class Stage:
    """The server, and which systems are ready on it."""

    server: EmbeddedPostgres
    broken: dict[str, str] = field(default_factory=dict)
    _ready: set[str] = field(default_factory=set)

    def dsn(self, database: str) -> str:
        """The connection string of a database on this server."""
        return self.server.dsn.replace(":///postgres?", f":///{database}?", 1)

    @contextmanager
    def database(self, facts: Facts) -> Iterator[str]:
        """The connection string of an empty installation of a system, for one measurement."""
        self._prepare(facts)
        name = f"bench_{facts.name}"
        with psycopg.connect(self.server.dsn, autocommit=True) as conn:
            conn.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")  # type: ignore[call-overload]
            conn.execute(f"CREATE DATABASE {name} TEMPLATE empty_{facts.name}")  # type: ignore[call-overload]
            conn.execute("CHECKPOINT")
        yield self.dsn(name)

    def cpu(self, watcher: psycopg.Connection) -> float:
        """The CPU seconds of the whole server so far, without the session that watches."""
        return cpu_of_tree(self.server.pid, without=watcher.info.backend_pid)

    def _prepare(self, facts: Facts) -> None:
        if facts.name in self.broken:
            raise DoesNotRun(self.broken[facts.name])
        if facts.name in self._ready:
            return
        with psycopg.connect(self.server.dsn, autocommit=True) as conn:
            conn.execute(f"CREATE DATABASE empty_{facts.name}")  # type: ignore[call-overload]
        try:
            install(facts, self.dsn(f"empty_{facts.name}"))
        except DoesNotRun as error:
            self.broken[facts.name] = str(error)
            raise
        self._ready.add(facts.name)
