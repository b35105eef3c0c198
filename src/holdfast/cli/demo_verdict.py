"""The demo's judgement: the provider's ledger against the journal."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from holdfast import History

_REFUSED = (429, 500, 502, 503)


@dataclass(frozen=True, slots=True)
class Call:
    """One request in the provider's ledger."""

    key: str
    client: str | None
    started_at: float
    ended_at: float | None
    status: int | None


@dataclass
class Evidence:
    """What was seen."""

    agents: int
    killed_pid: int | None = None
    killed_at: float = 0.0
    histories: list[History] = field(default_factory=list)
    report_jobs: list[int] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Verdict:
    """The numbers of the DEMO line, and every promise that was not kept."""

    numbers: dict[str, int | float]
    problems: list[str]

    @property
    def kept(self) -> bool:
        """True when every promise was kept."""
        return not self.problems


def read_calls(ledger: Path) -> list[Call]:
    """Returns the requests written to a ledger file so far."""
    if not ledger.exists():
        return []
    starts: dict[int, dict[str, object]] = {}
    ends: dict[int, dict[str, object]] = {}
    for line in ledger.read_text("utf-8").splitlines():
        entry = json.loads(line)
        (starts if entry["event"] == "start" else ends)[entry["n"]] = entry
    return [
        Call(
            key=str(start["key"]),
            client=None if start["client"] is None else str(start["client"]),
            started_at=float(str(start["at"])),
            ended_at=float(str(ends[n]["at"])) if n in ends else None,
            status=int(str(ends[n]["status"])) if n in ends else None,
        )
        for n, start in sorted(starts.items())
    ]


def judge(evidence: Evidence) -> Verdict:
    """Returns the numbers and what is wrong with them."""
    recorded = {
        f"{history.job.id}/{step.key}": step.finished_at.timestamp()
        for history in evidence.histories
        for step in history.steps
        if step.state == "done"
    }
    repeated = [c for c in evidence.calls if c.started_at > recorded.get(c.key, float("inf"))]
    in_flight = _in_flight(evidence, recorded)
    # A call that the provider refused was not answered: its step tries it again by its own rule.
    again = Counter(c.key for c in evidence.calls if c.status not in _REFUSED)
    made_twice = {key for key, count in again.items() if count > 1}
    finished = [h for h in evidence.histories if h.job.state == "completed"]
    resumed = [h for h in finished if any(e.outcome == "crashed" for e in h.executions)]
    numbers: dict[str, int | float] = {
        "agents": evidence.agents,
        "finished": len(finished),
        "workers_killed": int(evidence.killed_pid is not None),
        "resumed_jobs": len(resumed),
        "steps_recorded": len(recorded),
        "llm_calls": len(evidence.calls),
        "repeated_llm_calls": len(repeated),
        "calls_in_flight_when_killed": len(in_flight),
        "calls_made_again": sum(again[key] - 1 for key in made_twice),
        "reports_written": len(evidence.report_jobs),
        "seconds": evidence.seconds,
    }
    ids = sorted(h.job.id for h in evidence.histories)
    checks = {
        "an agent did not finish": len(finished) == evidence.agents,
        "no worker was killed": evidence.killed_pid is not None,
        "no job was resumed": bool(resumed),
        "a recorded step's call was made again": not repeated,
        "a call was made again that was not in flight": made_twice <= in_flight,
        "an LLM call is missing from the journal": {c.key for c in evidence.calls} <= set(recorded),
        "reports are not there exactly once": sorted(evidence.report_jobs) == ids,
    }
    return Verdict(numbers, [problem for problem, kept in checks.items() if not kept])


def _in_flight(evidence: Evidence, recorded: dict[str, float]) -> set[str]:
    """The steps whose call the killed worker had begun and whose result was not yet recorded."""
    return {
        call.key
        for call in evidence.calls
        if call.client == str(evidence.killed_pid)
        and call.started_at <= evidence.killed_at
        and recorded.get(call.key, float("inf")) > evidence.killed_at
    }
