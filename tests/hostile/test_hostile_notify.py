"""Malformed notifications, from any role: they only wake; a flood is not a claim for each."""

import asyncio
import threading
from collections.abc import Iterator

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

from fixtures.database import Installation
from fixtures.looking import counters, reached
from fixtures.running import running
from fixtures.wire import Counted, Wire
from holdfast import Holdfast

CLAIM = "AS due_in_s"
KINDS = ("wake", "cancel", "done")
PAYLOADS = {
    "empty": "",
    "of 7,900 bytes": "x" * 7900,
    "odd characters": "\x01\x1b[2J \U0001f600 \u202e '\";--\\ %s",
    "an unknown queue": "no such queue",
    "JSON": '{"id": 1, "queue": ["default"]}',
    "a number": str(2**64),
    "almost a queue": "default ",
}


@pytest.fixture
def stranger(db: Installation) -> Iterator[psycopg.Connection]:
    """A session of a role that may do nothing in the schema."""
    role = sql.Identifier(f"stranger {db.schema}")
    db.admin.execute(sql.SQL("CREATE ROLE {}").format(role))
    with psycopg.connect(db.server_dsn, autocommit=True) as conn:
        conn.execute(sql.SQL("SET ROLE {}").format(role))
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            conn.execute(f'SELECT 1 FROM "{db.schema}".job')
        yield conn
    db.admin.execute(sql.SQL("DROP ROLE {}").format(role))


def notify(conn: psycopg.Connection, db: Installation, kind: str, *payloads: str) -> None:
    """Sends notifications; in one statement, so that equal ones do not become one."""
    conn.execute(
        "SELECT pg_notify(%s, p) FROM unnest(%s::text[]) AS p",
        [f"{db.schema}:{kind}", list(payloads)],
    )


def claims(counted: Counted) -> int:
    return sum(CLAIM in statement for statement in counted.statements)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", PAYLOADS)
async def test_a_malformed_notification_of_any_role_harms_no_worker_and_no_waiter(
    app: Holdfast, db, stranger: psycopg.Connection, kind: str, name: str
) -> None:
    started, gate = asyncio.Event(), asyncio.Event()

    @app.job()
    async def work() -> str:
        started.set()
        await gate.wait()
        return "ran"

    async with running(app):
        handle = await work.enqueue()
        waiter = asyncio.create_task(handle.result(timeout=20))
        await reached(started)
        notify(stranger, db, kind, PAYLOADS[name])
        other = await work.enqueue()
        gate.set()
        assert await waiter == "ran"
        assert await other.result(timeout=20) == "ran"
    assert counters(db, handle.id) == ("completed", 0, 0, 0)


async def test_a_flood_for_unknown_queues_costs_no_claim_at_all(
    wire: Wire, wired: Holdfast, db, stranger: psycopg.Connection
) -> None:
    @wired.job()
    async def work() -> str:
        return "ran"

    async with running(wired):
        assert await (await work.enqueue()).result(timeout=20) == "ran"
        with wire.counting() as counted:
            notify(stranger, db, "wake", *(f"unknown {n}" for n in range(1000)))
            notify(stranger, db, "wake", *(("x" * 7900) + str(n) for n in range(10)))
            # Heard after the flood: by then the worker has been through it.
            handle = await work.enqueue()
            assert await handle.result(timeout=20) == "ran"
    # One for the job, one when it has ended; and what the clock asks for meanwhile.
    assert claims(counted) < 20


@pytest.mark.parametrize("kind", KINDS)
async def test_a_flood_of_a_thousand_is_not_a_claim_for_each(
    wire: Wire, wired: Holdfast, db, stranger: psycopg.Connection, kind: str
) -> None:
    flooded = threading.Event()

    @wired.job()
    async def hold() -> None:
        flooded.wait(60)  # blocks the loop on purpose: the worker hears all of the flood at once

    @wired.job()
    async def work() -> str:
        return "ran"

    def flood() -> None:
        # A transaction for each: within one, equal notifications are sent once.
        for _ in range(1000):
            notify(stranger, db, kind, "default")
        flooded.set()

    async with running(wired):
        assert await (await work.enqueue()).result(timeout=20) == "ran"
        held, next_one = await wired.enqueue_many([hold.new(), work.new()])
        thread = threading.Thread(target=flood)
        with wire.counting() as counted:
            thread.start()
            await held.result(timeout=60)
            assert await next_one.result(timeout=20) == "ran"
        thread.join()
    assert claims(counted) < 50
    assert counted.round_trips < 200


async def test_a_flood_does_not_keep_the_worker_from_its_jobs(
    app: Holdfast, db, stranger: psycopg.Connection
) -> None:
    @app.job()
    async def work(n: int) -> int:
        return n

    async with running(app):
        for n in range(20):
            for kind in KINDS:
                notify(stranger, db, kind, "default", *(f"{n} {i}" for i in range(100)))
            assert await (await work.enqueue(n)).result(timeout=20) == n


async def test_bytes_that_are_no_text_are_survived_in_a_database_without_an_encoding(
    db: Installation,
) -> None:
    name = f"ascii {db.schema}"
    create = (
        "CREATE DATABASE {} ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0"
    )
    db.admin.execute(sql.SQL(create).format(sql.Identifier(name)))
    dsn = make_conninfo(db.server_dsn, dbname=name)
    try:
        app = Holdfast(dsn, schema="holdfast")
        await asyncio.to_thread(app.migrate)

        @app.job()
        async def work() -> str:
            return "done"

        async with running(app):
            await (await work.enqueue()).result(timeout=20)
            with psycopg.connect(dsn, autocommit=True) as conn:
                before = conn.execute("SELECT id FROM holdfast.worker").fetchall()
                for kind in KINDS:
                    conn.execute(
                        "SELECT pg_notify(%s, convert_from('\\xff'::bytea, 'SQL_ASCII'))",
                        [f"holdfast:{kind}"],
                    )
            assert await (await work.enqueue()).result(timeout=20) == "done"
            with psycopg.connect(dsn, autocommit=True) as conn:
                assert conn.execute("SELECT id FROM holdfast.worker").fetchall() == before
    finally:
        db.admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))
