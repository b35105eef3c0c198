"""An agent that fails in the middle and resumes: no finished call to the LLM is made again.

The provider is a simulated one on this machine; it answers by extraction and counts its requests.
The agent's first attempt fails after two of its three calls. The second attempt runs the function
from the top: the two recorded steps return at once, only the third calls the provider.

Set HOLDFAST_DSN to a PostgreSQL database of yours, then: python examples/agent_with_steps.py

Expected output:

    attempt 1
    attempt 2
    steps: ask[cats] done, ask[dogs] done, ask[merge] done
    requests to the provider: 3
    idempotency keys: 3 different ones
"""

import asyncio
import json
import os
import urllib.request
from urllib.parse import urlsplit

from holdfast import Context, Holdfast, Retry, current_step, step
from holdfast.testing import SimulatedProvider

app = Holdfast()
TEXTS = {
    "cats": "Cats sleep for most of the day. A cat hunts at dawn. Cats see well in the dark.",
    "dogs": "Dogs live in packs. A dog follows its nose. Dogs have lived with people for long.",
}


@step(retry=Retry(3, delay="1s"), timeout="60s")
def ask(question: str) -> str:
    """One call of an LLM; the key makes a repeated request recognisable to the provider."""
    body = {"model": "m", "messages": [{"role": "user", "content": question}]}
    base_url = os.environ["OPENAI_BASE_URL"]
    assert urlsplit(base_url).scheme in ("http", "https")
    request = urllib.request.Request(
        f"{base_url}/chat/completions",
        json.dumps(body).encode(),
        {"Content-Type": "application/json", "Idempotency-Key": current_step().idempotency_key},
    )
    with urllib.request.urlopen(request) as response:
        return str(json.load(response)["choices"][0]["message"]["content"])


def soon(failure: int, error: BaseException) -> float:
    """Seconds until the next attempt; the default would be 17 for the first."""
    return 0.1


@app.job(queue="agents", max_attempts=3, backoff=soon)
async def compare(ctx: Context, topics: list[str]) -> str:
    print("attempt", ctx.attempt)
    notes = []
    for topic in topics:
        notes.append(await ctx.step(ask.options(key=topic), TEXTS[topic]))
    if ctx.attempt == 1:
        raise ConnectionError("the network went away after two of three calls")
    return await ctx.step(ask.options(key="merge"), " ".join(notes))


async def main() -> None:
    with SimulatedProvider(speed=100) as provider:
        os.environ["OPENAI_BASE_URL"] = provider.base_url
        async with app, app.running():
            handle = await compare.enqueue(["cats", "dogs"])
            report = await handle.result(timeout="60s")
            assert report
            history = await app.history(handle.id)
        calls = provider.ledger.calls()
    print("steps:", ", ".join(f"{s.key} {s.state}" for s in history.steps))
    print("requests to the provider:", len(calls))
    print("idempotency keys:", len({call.key for call in calls}), "different ones")


if __name__ == "__main__":
    app.migrate()
    asyncio.run(main())
