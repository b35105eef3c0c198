"""Progress that outlives its process, and a cancel that is durable before the code has stopped.

Set HOLDFAST_DSN to a PostgreSQL database of yours, then: python examples/progress_and_cancel.py

Expected output:

    running: 3 of 10, reading
    told to stop
    result: JobCancelled, the user closed the page
    kept: cancelled at 3 of 10
"""

import asyncio

from holdfast import Context, Handle, Holdfast, JobCancelled

app = Holdfast()


@app.job()
async def read_pages(ctx: Context, pages: int) -> None:
    for page in range(1, 4):
        await ctx.progress(page, pages, "reading")
    try:
        await asyncio.Event().wait()  # something that takes for ever
    except BaseException:
        # Clean up here, and let the exception pass.
        print("told to stop")
        raise


async def progress_of(handle: Handle[None], *, at_least: float) -> str:
    """Asks until the bar has come that far; progress is durable within about 250 ms."""
    async with asyncio.timeout(30):
        while True:
            job = await handle.job()
            if (job.progress or 0) >= at_least:
                return f"{job.progress_done:g} of {job.progress_total:g}, {job.progress_text}"
            await asyncio.sleep(0.05)


async def main() -> None:
    async with app, app.running():
        handle = await read_pages.enqueue(10)
        print("running:", await progress_of(handle, at_least=0.3))

        await handle.cancel("the user closed the page")
        try:
            await handle.result(timeout="30s")
        except JobCancelled as error:
            reason = error.message.partition(": ")[2]
            print(f"result: JobCancelled, {reason}")

        job = await handle.job()
        print(f"kept: {job.state} at {job.progress_done:g} of {job.progress_total:g}")


if __name__ == "__main__":
    app.migrate()
    asyncio.run(main())
