"""Options are checked apart from arguments; an unknown one is an error, and types are kept."""

from datetime import UTC, datetime, timedelta
from typing import assert_type

from holdfast import Context, Handle, Holdfast

app = Holdfast("postgresql:///example", schema="jobs", queues={"agents": 4}, grace="10s")
Holdfast(dns="postgresql:///example")  # E
Holdfast(queues=["agents"])  # E


@app.job(queue="agents", max_attempts=5, timeout="2h", deadline=timedelta(days=1), drift="stop")
async def research(ctx: Context, topic: str) -> str:
    return topic


def linear(failure: int, error: BaseException) -> float:
    return 10.0 * failure


def upper(failure: str) -> float:
    return 1.0


app.job(qeue="agents")  # E
app.job(priority="high")  # E
app.job(drift="ignore")  # E
app.job(backoff=linear)
app.job(backoff=upper)  # E


async def options() -> None:
    later = research.options(run_in="5m", priority=3, tags=["a"], meta={"tenant": 7})
    assert_type(await later.enqueue("cats"), Handle[str])
    assert_type(research.options(run_at=datetime.now(UTC)).enqueue_sync("x"), Handle[str])

    await later.enqueue(1)  # E
    research.options(run_inn="5m")  # E
    research.options(priority="high")  # E
    research.options(run_at="tomorrow")  # E
    research.options(meta=["a"])  # E
