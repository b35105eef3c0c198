"""`holdfast db retention` and `holdfast db prune`."""

import pytest

DEFAULTS = [
    {"queue": "", "state": "cancelled", "keep_s": 2_592_000.0},
    {"queue": "", "state": "completed", "keep_s": 2_592_000.0},
    {"queue": "", "state": "discarded", "keep_s": 7_776_000.0},
]


def ended(db, ago: str, queue: str = "mail") -> None:
    db.execute(
        "SELECT holdfast.enqueue(jsonb_build_object('name', 'n', 'queue', %s::text))", [queue]
    )
    db.execute("SELECT holdfast.cancel(ARRAY(SELECT id FROM holdfast.job))")
    db.execute(
        "UPDATE holdfast.job_archive SET finished_at = now() - %s::interval"
        " WHERE finished_at > now() - interval '1 minute'",
        [ago],
    )


def test_a_new_installation_keeps_failures_longer(holdfast) -> None:
    assert holdfast("db", "retention", "--json").lines == DEFAULTS
    shown = holdfast("db", "retention").out.splitlines()[2:]
    assert [line.split() for line in shown] == [
        ["any", "cancelled", "for", "30", "d"],
        ["any", "completed", "for", "30", "d"],
        ["any", "discarded", "for", "90", "d"],
    ]


def test_rules_are_set_for_ever_or_an_age_and_unset(holdfast) -> None:
    ran = holdfast("db", "retention", "set", "forever", "--queue", "audit")
    assert ran.out == "finished jobs of queue 'audit' are kept for ever\n"
    ran = holdfast("db", "retention", "set", "12h", "--state", "completed", "--json")
    assert ran.document == {"queue": "", "state": "completed", "keep_s": 43_200.0}
    lines = holdfast("db", "retention", "--json").lines
    assert {"queue": "audit", "state": "", "keep_s": None} in lines
    assert "the rule is removed" in holdfast("db", "retention", "unset", "--queue", "audit").out
    assert "there was no rule" in holdfast("db", "retention", "unset", "--queue", "audit").out


@pytest.mark.parametrize("age", ["30", "3 parsecs", "-1d", "never"])
def test_an_age_needs_a_unit(holdfast, age) -> None:
    ran = holdfast("db", "retention", "set", "--", age)
    assert ran.code == 2
    assert "hint:" in ran.err


def test_a_state_that_is_not_final_is_refused(holdfast) -> None:
    ran = holdfast("db", "retention", "set", "1d", "--state", "complete")
    assert ran.code == 2
    assert "'completed'" in ran.err


def test_prune_removes_what_is_past_its_rule_now_and_counts(holdfast, db) -> None:
    ended(db, "40 days")
    ended(db, "1 day")
    ran = holdfast("db", "prune", "--json")
    assert ran.document == {"jobs": 1, "keys": 0, "partitions": []}
    assert holdfast("db", "prune").out == "0 finished jobs removed\n"


def test_prune_names_the_partitions_it_drops(holdfast, db) -> None:
    db.execute(
        "CREATE TABLE holdfast.job_archive_20200101 PARTITION OF holdfast.job_archive"
        " FOR VALUES FROM ('2020-01-01 00:00+00') TO ('2020-01-02 00:00+00')"
    )
    ended(db, "1 day")
    db.execute("UPDATE holdfast.job_archive SET finished_at = '2020-01-01 12:00+00'")
    out = holdfast("db", "prune").out
    assert out == (
        "dropped job_archive_20200101: 1 jobs\n1 finished jobs removed, 1 partitions dropped\n"
    )
