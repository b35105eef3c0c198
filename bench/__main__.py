"""`python -m bench`: runs every scenario on an embedded server, prints a table, writes JSON."""

import asyncio
import json
import platform
import sys
import tempfile
from pathlib import Path

from bench import bare, ours
from holdfast import EmbeddedPostgres, Holdfast, __version__

RESULTS = Path(".bench/results.json")


def main() -> None:
    """Runs the scenarios whose names are given, or all."""
    chosen = set(sys.argv[1:])
    with tempfile.TemporaryDirectory(prefix="holdfast-bench-") as folder:
        Path(folder).chmod(0o711)
        settings = {"shared_buffers": "1GB", "max_wal_size": "4GB"}
        with EmbeddedPostgres(Path(folder) / "pg", settings=settings) as server:
            results = asyncio.run(_measure(server, chosen))
            results["machine"] = {
                "postgresql": server.version,
                "python": platform.python_version(),
                "holdfast": __version__,
            }
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(results, indent=2))
    print(f"\nwritten to {RESULTS}")


async def _measure(server: EmbeddedPostgres, chosen: set[str]) -> dict[str, object]:
    results: dict[str, object] = {}
    scenarios = {**ours.SCENARIOS, **bare.SCENARIOS}
    for number, (name, scenario) in enumerate(scenarios.items()):
        if chosen and name not in chosen:
            continue
        app = Holdfast(server.dsn, schema=f"bench{number}", queues=ours.QUEUES)
        app.migrate()
        answer = await scenario(app)
        await app.close()
        results[name] = answer
        shown = "  ".join(f"{key} {value:,.2f}" for key, value in answer.items())
        print(f"{name:<24} {shown}", flush=True)
    return results


main()
