"""The smallest program: one job, enqueued and run in the same process.

Set HOLDFAST_DSN to a PostgreSQL database of yours, then: python examples/hello.py

Expected output:

    Hello, Ada!
    state: completed
"""

import asyncio

from holdfast import Holdfast

app = Holdfast()


@app.job()
async def greet(name: str) -> str:
    return f"Hello, {name}!"


async def main() -> None:
    async with app, app.running():
        handle = await greet.enqueue("Ada")
        print(await handle.result(timeout="30s"))
        print("state:", (await handle.job()).state)


if __name__ == "__main__":
    app.migrate()
    asyncio.run(main())
