"""Plain functions as jobs and as steps: in threads of their own, with the same durability.

Nothing here is async but the few lines that run a worker in this process; in production that is
the command `holdfast worker`.

Set HOLDFAST_DSN to a PostgreSQL database of yours, then: python examples/plain_functions.py

Expected output:

    words: 9
    longest: simultaneous
    steps: count_words[0], count_words[1], count_words[2], longest_word
"""

import asyncio

from holdfast import BlockingContext, Holdfast, step

app = Holdfast()
TEXTS = ["one two three", "four five six", "seven eight simultaneous"]


def count_words(number: int) -> int:
    return len(TEXTS[number].split())


@step
def longest_word(text: str) -> str:
    return max(text.split(), key=len)


@app.job()
def measure(ctx: BlockingContext) -> tuple[int, str]:
    # At most two of them at once, each a step; without `key` the item itself is the key.
    counts = ctx.map(count_words, range(len(TEXTS)), limit=2)
    # A function decorated with @step may be called as if it were a plain one.
    return sum(counts), longest_word(" ".join(TEXTS))


def client() -> None:
    handle = measure.enqueue_sync()
    words, longest = handle.result_sync(timeout="30s")
    print("words:", words)
    print("longest:", longest)
    steps = app.history_sync(handle.id).steps
    print("steps:", ", ".join(sorted(step.key for step in steps)))


async def main() -> None:
    async with app, app.running():
        await asyncio.to_thread(client)


if __name__ == "__main__":
    app.migrate()
    asyncio.run(main())
