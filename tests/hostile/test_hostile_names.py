"""Names with quotes, dots, slashes, spaces, non-ASCII work; names of 10 kB are refused."""

from typing import Any

import psycopg
import pytest

from fixtures.command import environment, run_command
from fixtures.hostile import ENTRANCES, enqueue, enqueue_by_sql, stored
from fixtures.running import eventually, running
from holdfast import Holdfast, InvalidOption, UnknownName
from holdfast.storage.failures import translate

NAMES = {
    "quotes": 'it\'s "so" `odd`',
    "dollar quotes": "$$ $1 %s %(name)s {0} ; --",
    "dots": "a.b..c.",
    "slashes": "/mail/../out\\going/",
    "spaces": "two  words",
    "non-ASCII": "Größe 東京 🚀 שלום",
    "like a channel": "holdfast:wake",
    "like JSON": '{"a": [1]}',
    "like an array": "{a,NULL}",
    "longest": "ä" * 128,
}
REFUSED: dict[str, Any] = {
    "10 kB": "x" * 10_000,
    "one too long": "x" * 129,
    "empty": "",
    "newline": "a\nb",
    "tab": "a\tb",
    "space at the end": "a ",
    "bytes": b"a",
    "number": 7,
}


@pytest.mark.parametrize("kind", NAMES)
async def test_queue_and_job_names_of_any_characters_work_from_enqueue_to_result(
    app: Holdfast, db, kind: str
) -> None:
    name = NAMES[kind]

    @app.job(name=name, queue=name, tags=[name])
    async def work(n: int) -> int:
        return n + 1

    async with running(app):
        for entrance in ENTRANCES:
            handle = await enqueue(entrance, app, work, 1)
            assert await handle.result(timeout=10) == 2
        by_sql = enqueue_by_sql(db, name=name, queue=name, args={"n": 2}, tags=[name])
        assert await app.handle(by_sql, name).result(timeout=10) == 3
        other = await work.options(queue=name, tags=[name], run_in="1h").enqueue(1)
        assert name in (await app.explain(other.id)).reason or (await other.job()).queue == name
        found = await app.jobs(queue=name, name=name, tag=name)
        assert len(found) == 6
        assert {(job.queue, job.name, tuple(job.tags)) for job in found} == {(name, name, (name,))}


@pytest.mark.parametrize("kind", NAMES)
async def test_a_worker_of_an_oddly_named_queue_is_woken_by_a_notification(
    app: Holdfast, db, kind: str
) -> None:
    name = NAMES[kind]

    @app.job(queue=name)
    async def work() -> str:
        return "ran"

    with psycopg.connect(db.dsn, autocommit=True) as listener:
        listener.execute(f'LISTEN "{db.schema}:wake"')
        await work.enqueue()
        (notice,) = listener.notifies(timeout=10, stop_after=1)
    assert notice.payload == name
    await app.close()


@pytest.mark.parametrize("kind", REFUSED)
def test_names_of_10_kb_and_other_impossible_names_are_refused_where_they_are_written(
    app: Holdfast, db, kind: str
) -> None:
    @app.job()
    async def work() -> None: ...

    bad = REFUSED[kind]
    for field, write in (
        ("queue=", lambda: app.job(queue=bad)),
        ("tag=", lambda: app.job(tags=[bad])),
        ("queue=", lambda: work.options(queue=bad)),
        ("tag=", lambda: work.options(tags=[bad])),
        ("name=", lambda: app.jobs_sync(name=bad)),
        ("tag=", lambda: app.jobs_sync(tag=bad)),
    ):
        with pytest.raises(InvalidOption, match=field) as caught:
            write()
        assert "A name has 1 to 128 characters" in caught.value.hint
        assert len(str(caught.value)) < 500
    if bad:
        with pytest.raises(InvalidOption, match="job name="):
            app.job(name=bad)(work.fn)
    assert stored(db) == 0


def test_a_name_of_10_kb_from_plain_sql_is_refused_by_the_database(db) -> None:
    for field in ("name", "queue"):
        with pytest.raises(psycopg.Error) as caught:
            enqueue_by_sql(db, **{"name": "work", field: "x" * 10_000})
        assert translate(caught.value, db.schema).code == "HF-104"
    assert stored(db) == 0


def test_an_unknown_name_of_10_kb_gets_a_short_answer(app: Holdfast) -> None:
    @app.job(name="it's odd")
    async def work() -> None: ...

    for name in ("x" * 10_000, "it's  odd", "\x00", "\ud800"):
        with pytest.raises(UnknownName) as caught:
            app.job_function(name)
        assert "it's odd" in caught.value.hint
        assert len(str(caught.value)) < 500
        str(caught.value).encode()


def test_the_command_shows_odd_names_and_refuses_impossible_ones(db) -> None:
    name = NAMES["quotes"]
    job_id = enqueue_by_sql(db, name=name, queue=name, tags=[name])
    env = environment(HOLDFAST_DSN=db.dsn, HOLDFAST_SCHEMA=db.schema, COLUMNS="200")
    assert name in run_command("jobs", "list", "--queue", name, env=env).out
    assert name in run_command("jobs", "show", job_id, env=env).out
    assert repr(name) in run_command("jobs", "explain", job_id, env=env).out
    for option in ("--queue", "--name", "--tag"):
        ran = run_command("jobs", "list", option, "x" * 10_000, env=env)
        assert (ran.code, option in ran.err, "Traceback" in ran.err) == (2, True, False)


async def test_a_queue_with_a_hostile_name_does_not_disturb_its_neighbour(
    app: Holdfast, db
) -> None:
    @app.job(queue="'; DROP TABLE job; --")
    async def odd() -> str:
        return "odd"

    @app.job(queue="default")
    async def plain() -> str:
        return "plain"

    async with running(app):
        handles = [await odd.enqueue(), await plain.enqueue()]
        assert [await handle.result(timeout=10) for handle in handles] == ["odd", "plain"]
        await eventually(lambda: db.value("SELECT count(*) FROM holdfast.job") == 0)
