"""The demo is run for real; its judgement is tried on evidence that was tampered with."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from holdfast import Execution, History, Job, Step
from holdfast.cli.demo_verdict import Call, Evidence, judge
from holdfast.testing import SimulatedProvider

_FIELDS = {
    "agents", "finished", "workers_killed", "resumed_jobs", "steps_recorded", "llm_calls",
    "repeated_llm_calls", "calls_in_flight_when_killed", "reports_written", "seconds",
}  # fmt: skip


def _demo(*args: str, **environment: str) -> tuple[int, dict, str]:
    done = subprocess.run(
        [sys.executable, "-m", "holdfast", "demo", "--json", *args],
        capture_output=True,
        text=True,
        timeout=110,
        env={**os.environ, **environment},
    )
    last = done.stdout.splitlines()[-1] if done.stdout else ""
    assert last.startswith("DEMO "), done.stderr
    return done.returncode, json.loads(last.removeprefix("DEMO ")), done.stderr


@pytest.mark.slow
def test_the_demo_kills_a_worker_and_repeats_no_recorded_call() -> None:
    code, numbers, errors = _demo()

    assert code == 0, errors
    assert numbers.keys() >= _FIELDS
    assert numbers["agents"] == numbers["finished"] == numbers["reports_written"] == 12
    assert numbers["workers_killed"] == 1
    assert numbers["resumed_jobs"] >= 1
    assert numbers["repeated_llm_calls"] == 0
    assert numbers["calls_made_again"] <= numbers["calls_in_flight_when_killed"]


@pytest.mark.slow
def test_the_demo_reads_given_documents_and_uses_the_given_endpoint(tmp_path: Path) -> None:
    for number in range(6):
        text = "\n\n".join(
            f"Paragraph {n} of document {number} tells of durable agents. They resume."
            for n in range(120)
        )
        (tmp_path / f"notes{number}.md").write_text(text)
    with SimulatedProvider(speed=1.0, api_key="secret") as provider:
        code, numbers, errors = _demo(
            str(tmp_path), OPENAI_BASE_URL=provider.base_url, OPENAI_API_KEY="secret"
        )
        asked = len(provider.ledger.calls())

    assert code == 0, errors
    assert numbers["agents"] == 6
    assert asked == numbers["llm_calls"]


_NOW = datetime(2026, 1, 1, tzinfo=UTC)
_KILL = (_NOW + timedelta(seconds=10)).timestamp()


def _evidence() -> Evidence:
    """One agent: step `a` recorded before the kill, `b` in flight and made again."""
    job = Job(
        1, "completed", "completed", "agents", "research", "{}", 0, _NOW, _NOW, _NOW, _NOW, None,
        None, 0, 3, 1, 3, 0, 2, None, None, None, None, [], "{}", 1.0, None, None, None, _NOW,
    )  # fmt: skip
    executions = [
        Execution(1, 7, _NOW, _NOW, "crashed", "crash", "died", None, None, None, None, None)
    ]
    steps = [_step("a", 5), _step("b", 20)]
    return Evidence(
        agents=1,
        killed_pid=99,
        killed_at=_KILL,
        histories=[History(job, executions, steps)],
        report_jobs=[1],
        calls=[_call("1/a", "99", 1), _call("1/b", "99", 8), _call("1/b", "98", 12)],
        seconds=1.0,
    )


def _step(key: str, at: float) -> Step:
    end = _NOW + timedelta(seconds=at)
    return Step(key, 1, "step", "done", 1, 1, end, end, None, None, 0, None, None, None)


def _call(key: str, client: str, at: float) -> Call:
    started = _NOW.timestamp() + at
    return Call(key, client, started, started + 1, 200)


def test_an_honest_run_is_as_promised() -> None:
    verdict = judge(_evidence())

    assert verdict.problems == []
    assert verdict.numbers["calls_in_flight_when_killed"] == 1
    assert verdict.numbers["resumed_jobs"] == 1


@pytest.mark.parametrize(
    ("tamper", "problem"),
    [
        (lambda e: e.calls.append(_call("1/a", "98", 6)), "a recorded step's call"),
        (lambda e: e.calls.append(_call("1/a", "98", 4)), "was not in flight"),
        (lambda e: e.calls.append(_call("1/c", "98", 4)), "missing from the journal"),
        (lambda e: e.report_jobs.append(1), "exactly once"),
        (lambda e: e.report_jobs.clear(), "exactly once"),
        (lambda e: setattr(e, "killed_pid", None), "no worker was killed"),
        (lambda e: e.histories[0].executions.clear(), "no job was resumed"),
        (lambda e: setattr(e, "agents", 2), "did not finish"),
    ],
)
def test_a_broken_promise_is_told(tamper, problem: str) -> None:
    evidence = _evidence()
    tamper(evidence)

    assert any(problem in told for told in judge(evidence).problems)


def test_a_job_that_is_not_completed_does_not_count_as_finished() -> None:
    evidence = _evidence()
    history = evidence.histories[0]
    evidence.histories = [replace(history, job=replace(history.job, state="discarded"))]

    assert judge(evidence).numbers["finished"] == 0
    assert not judge(evidence).kept
