"""A state machine over the SQL transitions: workers compete, and a plain model knows the answers.

Hypothesis draws programs of rules (`tests/machine`), runs them against the real statements, and
after each rule compares every row with the model. A program that fails is shrunk and printed; it
is remembered in `.hypothesis` and tried first the next time. To run one from its printed blob, put
`@reproduce_failure(...)` above `machine` in `play`. More programs:

    HOLDFAST_MACHINE_EXAMPLES=5000 pytest tests/db/test_machine.py -m slow
"""

import os
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from fixtures.desk import Desk
from holdfast.storage.statements import quoted
from machine.model import ONLY_ARCHIVED, ONLY_LIVE, Execution, Job, Model, Step, TakenKey, Worker
from machine.rules_stories import StoryRules
from machine.world import KEYS, LEASE_S, NOT_MODELLED, Session

ASKED_FOR = os.environ.get("HOLDFAST_MACHINE_EXAMPLES")
# A failing program is shrunk for up to five minutes; a time limit must not take its report away.


class Machine(StoryRules):
    """Everything that can happen to jobs."""


@pytest.fixture
def sessions(desk: Desk) -> Iterator[tuple[Session, Session]]:
    """Two connections on which time stands where the machine says."""
    desk.db.execute(
        "CREATE OR REPLACE FUNCTION holdfast.clock() RETURNS timestamptz LANGUAGE sql "
        "STABLE PARALLEL SAFE AS $$ SELECT current_setting('machine.now')::timestamptz $$"
    )
    wait_for_the_end_of_the_amnesty(desk)
    pair = (Session(desk.connect(), set()), Session(desk.connect(), set()))
    for session in pair:
        listen(desk, session)
    return pair


def listen(desk: Desk, session: Session) -> None:
    """Prepares a session: what it says itself it hears at once, and it never waits for a lock."""
    conn = session.conn
    conn.execute("SET lock_timeout = '2s'")
    conn.execute("SET TimeZone = 'UTC'")
    pid = conn.info.backend_pid

    def heard(notice) -> None:
        if notice.pid == pid:
            session.told.add((notice.channel.rpartition(":")[2], notice.payload))

    conn.add_notify_handler(heard)
    for kind in ("wake", "cancel", "done"):
        conn.execute(f"LISTEN {quoted(f'{desk.schema}:{kind}')}")


def wait_for_the_end_of_the_amnesty(desk: Desk) -> None:
    """Returns once the server is older than a lease: before that nobody is dead."""
    while not desk.db.value(
        "SELECT pg_postmaster_start_time() < clock_timestamp() - %s * interval '1 second'",
        [LEASE_S],
    ):
        desk.db.execute("SELECT pg_sleep(0.02)")


def play(desk: Desk, sessions: tuple[Session, Session], *, examples: int, steps: int) -> None:
    """Runs programs of rules until one fails or all have passed."""

    def machine() -> Machine:
        return Machine(desk, *sessions)

    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            derandomize=False,
            print_blob=True,
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_the_model_knows_every_column(desk: Desk) -> None:
    names = {
        "job": set(Job.__dataclass_fields__) - ONLY_ARCHIVED,
        "job_archive": set(Job.__dataclass_fields__) - ONLY_LIVE,
        "execution": set(Execution.__dataclass_fields__),
        "step": set(Step.__dataclass_fields__),
        "blob": {"job_id", "key", "data"},
        "worker": set(Worker.__dataclass_fields__),
        "unique_key": set(TakenKey.__dataclass_fields__),
    }
    assert names.keys() == KEYS.keys() == Model().tables().keys()
    for table, modelled in names.items():
        rows = desk.db.execute(
            "SELECT column_name FROM information_schema.columns "
            "WHERE table_schema = %s AND table_name = %s",
            [desk.schema, table],
        )
        assert {row[0] for row in rows} - NOT_MODELLED.get(table, set()) == modelled


@pytest.mark.timeout(600)
def test_short_programs_of_all_operations_do_what_the_model_says(
    desk: Desk, sessions: tuple[Session, Session]
) -> None:
    play(desk, sessions, examples=40, steps=30)


@pytest.mark.slow
@pytest.mark.timeout(0 if ASKED_FOR else 600)
def test_long_programs_of_all_operations_do_what_the_model_says(
    desk: Desk, sessions: tuple[Session, Session]
) -> None:
    play(desk, sessions, examples=int(ASKED_FOR or 200), steps=60)
