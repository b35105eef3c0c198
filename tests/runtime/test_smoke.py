"""The whole path, once: enqueue, claim, run, finish, result."""

from fixtures.running import running
from holdfast import Holdfast


async def test_a_job_runs_and_its_result_comes_back(app: Holdfast) -> None:
    @app.job()
    async def add(a: int, b: int) -> int:
        return a + b

    async with running(app):
        handle = await add.enqueue(1, b=2)
        assert await handle.result(timeout=10) == 3
