"""Queues at run time: pause, resume, scale, new queues, and that settings outlive workers."""

import asyncio
from collections import Counter
from collections.abc import Callable

import pytest

from fixtures.looking import eventually_awaited
from fixtures.proxy import Proxy
from fixtures.running import eventually, running
from holdfast import Holdfast, UnknownName
from holdfast.storage.listen import Listener


class Gate:
    """Jobs of an application that run until they are let go; counts those that have started."""

    def __init__(self, app: Holdfast, *queues: str) -> None:
        self.open = asyncio.Event()
        self.started: Counter[str] = Counter()
        self.app = app
        for queue in queues:
            self._define(queue)

    def _define(self, queue: str) -> None:
        async def hold() -> None:
            self.started[queue] += 1
            await self.open.wait()

        self.app.job(name=f"hold_{queue}", queue=queue)(hold)

    async def enqueue(self, queue: str, count: int = 1, *, to: str | None = None) -> list[int]:
        """Stores jobs of a queue's function, there or in another queue."""
        function = self.app.job_function(f"hold_{queue}").options(queue=to or queue)
        return [(await function.enqueue()).id for _ in range(count)]

    async def has_started(self, queue: str, count: int) -> None:
        """Waits until so many jobs of a queue's function have started in all."""
        await eventually(lambda: self.started[queue] >= count)
        assert self.started[queue] == count


def row_of(db, name: str) -> Callable[[], tuple]:
    """Returns what asks for the queues and pauses that the row of a worker says."""
    return lambda: db.execute(
        "SELECT queues, paused FROM holdfast.worker WHERE name = %s AND NOT declared_dead", [name]
    )[0]


async def in_force(db, name: str, queues: dict[str, int], paused: tuple[str, ...] = ()) -> None:
    """Waits until a worker has said that it serves these queues."""
    row = row_of(db, name)
    await eventually(lambda: row() == (queues, list(paused)))


@pytest.fixture
def named(app: Holdfast) -> Holdfast:
    """An application whose workers have a name."""
    return app.with_settings(worker_name="blue")


async def quiet(gate: Gate, queue: str, count: int) -> None:
    """Lets another queue's job run start to end, in which time this queue's would have started."""
    before = gate.started["probe"]
    await gate.enqueue("probe")
    await gate.has_started("probe", before + 1)
    assert gate.started[queue] == count


async def test_a_paused_queue_starts_nothing_while_running_jobs_go_on(named: Holdfast, db) -> None:
    gate = Gate(named, "mail", "probe")
    async with running(named):
        (first,) = await gate.enqueue("mail")
        await gate.has_started("mail", 1)
        await named.pause("mail")
        await in_force(db, "blue", {"mail": 10, "probe": 10}, ("mail",))
        (second,) = await gate.enqueue("mail")
        await quiet(gate, "mail", 1)
        assert "queue 'mail' is paused since" in (await named.explain(second)).reason
        gate.open.set()
        await named.handle(first).result(timeout=10)
        assert (await named.client.job(second)).state == "available"

        assert await named.resume("mail") == 1
        await named.handle(second).result(timeout=10)
        await in_force(db, "blue", {"mail": 10, "probe": 10})


async def test_a_pause_outlives_the_workers_and_holds_for_new_ones_from_their_first_claim(
    named: Holdfast, db
) -> None:
    gate = Gate(named, "mail", "probe")
    gate.open.set()
    waiting = await gate.enqueue("mail", 20)
    await named.pause("mail")
    for attempt in range(3):
        async with running(named):
            await gate.enqueue("probe")
            await gate.has_started("probe", attempt + 1)
            await in_force(db, "blue", {"mail": 10, "probe": 10}, ("mail",))
    assert gate.started["mail"] == 0
    async with running(named):
        await named.resume("mail")
        for job_id in waiting:
            await named.handle(job_id).result(timeout=10)


async def test_scaling_up_starts_more_at_once_and_down_starts_none_until_there_is_room(
    named: Holdfast, db
) -> None:
    gate = Gate(named, "mail", "probe")
    async with running(named, queues={"mail": 2, "probe": 5}):
        await gate.enqueue("mail", 9)
        await gate.has_started("mail", 2)
        await named.scale("mail", 5)
        await gate.has_started("mail", 5)
        await named.scale("mail", 3)
        await in_force(db, "blue", {"mail": 3, "probe": 5})
        await quiet(gate, "mail", 5)
        gate.open.set()
        await gate.has_started("mail", 9)
        await named.scale("mail", None)
        await in_force(db, "blue", {"mail": 2, "probe": 5})


async def test_no_slots_stop_serving_a_queue_until_it_has_some_again(named: Holdfast, db) -> None:
    gate = Gate(named, "mail", "probe")
    gate.open.set()
    async with running(named):
        await named.scale("mail", 0)
        await in_force(db, "blue", {"probe": 10})
        (job_id,) = await gate.enqueue("mail")
        await quiet(gate, "mail", 0)
        explanation = await named.explain(job_id)
        assert "scaled to 0 slots" in explanation.reason
        assert "queues scale mail=default" in (explanation.advice or "")
        await named.scale("mail", None)
        await named.handle(job_id).result(timeout=10)


async def test_a_new_queue_is_taken_by_workers_that_were_started_without_a_list(
    named: Holdfast, db
) -> None:
    gate = Gate(named, "mail", "probe")
    gate.open.set()
    async with running(named):
        (job_id,) = await gate.enqueue("mail", to="brand-new")
        await quiet(gate, "mail", 0)
        await named.scale("brand-new", 3)
        await named.handle(job_id).result(timeout=10)
        await in_force(db, "blue", {"brand-new": 3, "mail": 10, "probe": 10})


async def test_a_worker_with_a_list_takes_a_new_queue_only_when_it_is_named(
    named: Holdfast, db
) -> None:
    gate = Gate(named, "mail", "probe")
    gate.open.set()
    async with running(named, queues={"mail": 2, "probe": 2}):
        await named.scale("brand-new", 3)
        await named.scale("mail", 4)
        await in_force(db, "blue", {"mail": 4, "probe": 2})
        (worker,) = await named.workers()
        assert worker.closed
        (job_id,) = await gate.enqueue("mail", to="brand-new")
        await quiet(gate, "mail", 0)
        await named.scale("brand-new", 1, worker="blue")
        await named.handle(job_id).result(timeout=10)


async def test_what_is_set_for_a_name_concerns_workers_of_that_name_alone(
    app: Holdfast, named: Holdfast, db
) -> None:
    Gate(named, "mail", "probe")
    green = named.with_settings(worker_name="green")
    async with running(green), running(named):
        await named.scale("mail", 5)
        await named.scale("mail", 2, worker="green")
        await named.pause("probe", worker="blue")
        await in_force(db, "green", {"mail": 2, "probe": 10})
        await in_force(db, "blue", {"mail": 5, "probe": 10}, ("probe",))
        await named.pause("probe")
        await in_force(db, "green", {"mail": 2, "probe": 10}, ("probe",))
        assert await named.resume("probe", worker="blue") == 1
        assert await named.resume("probe", worker="blue") == 0
        assert row_of(db, "blue")()[1] == ["probe"], "it is paused for all"
        assert await named.resume("probe") == 1
        await in_force(db, "blue", {"mail": 5, "probe": 10})
    # The next worker of that name obeys, too.
    async with running(green):
        await in_force(db, "green", {"mail": 2, "probe": 10})


async def test_resuming_for_all_ends_the_pauses_of_single_workers(named: Holdfast, db) -> None:
    Gate(named, "mail")
    async with running(named):
        await named.pause("mail", worker="blue")
        await in_force(db, "blue", {"mail": 10}, ("mail",))
        assert await named.resume("mail") == 1
        await in_force(db, "blue", {"mail": 10})


async def test_a_pause_that_was_not_heard_counts_after_the_reconnection(
    db, named: Holdfast
) -> None:
    proxy = Proxy(db.dsn)
    through = named.with_settings(dsn=proxy.dsn)
    gate = Gate(through, "mail", "probe")
    gate.open.set()
    try:
        async with running(through):
            await in_force(db, "blue", {"mail": 10, "probe": 10})
            proxy.cut()
            db.execute(
                "INSERT INTO holdfast.queue (name, paused_at, changed_at)"
                " VALUES ('mail', now(), now())"
            )
            proxy.restore()
            await in_force(db, "blue", {"mail": 10, "probe": 10}, ("mail",))
            (job_id,) = await gate.enqueue("mail")
            await quiet(gate, "mail", 0)
            assert (await through.client.job(job_id)).state == "available"
    finally:
        proxy.close()


async def test_workers_that_hear_no_notifications_follow_settings_all_the_same(
    named: Holdfast, db, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def deaf(listener: Listener) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(Listener, "run", deaf)
    gate = Gate(named, "mail", "probe")
    async with running(named):
        await named.pause("mail")
        await in_force(db, "blue", {"mail": 10, "probe": 10}, ("mail",))
        await gate.enqueue("mail")
        await quiet(gate, "mail", 0)
        await named.resume("mail")
        await gate.has_started("mail", 1)
        gate.open.set()


async def test_pausing_a_queue_that_nobody_knows_is_refused_with_the_nearest_name(
    named: Holdfast,
) -> None:
    Gate(named, "mail")
    async with running(named):
        with pytest.raises(UnknownName, match="mial"):
            await named.pause("mial")
        assert [queue.name for queue in await named.queues()] == ["mail"]


async def test_queues_tell_jobs_slots_and_pauses(named: Holdfast, db) -> None:
    gate = Gate(named, "mail", "probe")
    async with running(named, queues={"mail": 1, "probe": 4}):
        await gate.enqueue("mail", 3)
        await gate.has_started("mail", 1)
        await named.pause("probe", worker="blue")

        async def told() -> bool:
            mail, probe = await named.queues()
            return (
                (mail.executing, mail.available, mail.workers, mail.slots) == (1, 2, 1, 1)
                and mail.waiting_s is not None
                and (probe.slots, probe.paused_workers, probe.paused_at) == (0, 1, None)
            )

        await eventually_awaited(told)
        gate.open.set()
        await gate.has_started("mail", 3)
