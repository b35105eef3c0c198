"""What jobs measured themselves: lines in a file that all processes append to."""

from __future__ import annotations

import json
import statistics
from pathlib import Path


def read(path: Path) -> list[list[float]]:
    """Returns the complete lines so far, each a list of numbers."""
    if not path.exists():
        return []
    text = path.read_text()
    return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]


def spread(seconds: list[float]) -> dict[str, float]:
    """Returns the median and the 99th percentile in milliseconds."""
    ordered = sorted(seconds)
    last = ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))]
    return {"p50 ms": statistics.median(ordered) * 1000, "p99 ms": last * 1000}
