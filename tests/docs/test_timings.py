"""Numbers that pages state are the numbers of the code."""

import pytest
from pages import ROOT

from holdfast import Settings
from holdfast.app.settings import DEFAULT_CONCURRENCY
from holdfast.model.codec import MAX_RESULT_BYTES
from holdfast.runtime import committer, lease, worker
from holdfast.runtime.attempt import PARK_AFTER_S
from holdfast.runtime.definition import MAX_ARGS_BYTES

_MIB = 1024 * 1024
STATED = [
    ("docs/decisions/0003-rescue-is-part-of-every-heartbeat.md", f"every {lease._BEAT_S:g} s "),
    ("ARCHITECTURE.md", f"every {lease._BEAT_S:g} s; a lease lasts {lease.LEASE_S:g} s"),
    ("ARCHITECTURE.md", f"is gone for {lease.GRACE_S:g} s"),
    ("docs/operate/workers.md", f"1 to {lease._BEAT_S + lease.GRACE_S:g} seconds"),
    ("docs/operate/workers.md", f"not renewed | {lease.LEASE_S:g} seconds"),
    ("docs/operate/workers.md", f"its lease for {lease.GIVE_UP_S:g} seconds"),
    ("docs/operate/what-happens-when.md", f"has been up for {lease.LEASE_S:g} seconds"),
    ("docs/operate/what-happens-when.md", f"for more than {lease.GIVE_UP_S:g} seconds"),
    ("docs/operate/what-happens-when.md", f"every {worker._POLL_LISTENING_S:g} seconds"),
    ("docs/operate/what-happens-when.md", f"again every {worker._UNKNOWN_DELAY_S:g} seconds"),
    ("docs/learn/jobs.md", f"every {worker._UNKNOWN_DELAY_S:g} seconds"),
    ("docs/learn/jobs.md", f"up to {MAX_ARGS_BYTES // _MIB} MiB"),
    ("docs/learn/results.md", f"up to {MAX_RESULT_BYTES // _MIB} MiB"),
    ("docs/learn/progress.md", f"less than {committer._PROGRESS_EVERY_S * 1000:g} ms"),
    ("docs/operate/deploy.md", f"{Settings().grace_s:g} seconds"),
]


@pytest.mark.parametrize(("page", "words"), STATED)
def test_a_number_on_a_page_is_the_number_of_the_code(page: str, words: str) -> None:
    assert words in " ".join((ROOT / page).read_text("utf-8").split())


def test_the_numbers_that_pages_spell_out_are_those_of_the_code() -> None:
    waiting = (ROOT / "docs/learn/waiting.md").read_text("utf-8")
    workers = (ROOT / "docs/operate/workers.md").read_text("utf-8")
    assert PARK_AFTER_S == 5.0 and "longer than five seconds" in waiting
    assert DEFAULT_CONCURRENCY == 10 and "*slots* for it: ten" in workers
    assert worker._POLL_BLIND_S == 0.5
    assert "look every half second" in (ROOT / "docs/operate/what-happens-when.md").read_text()
