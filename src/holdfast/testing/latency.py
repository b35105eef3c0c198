"""The time a simulated answer takes: a wait for the first token, then one for each token.

The jitter is drawn from a generator seeded with the request's hash, so the same request takes the
same time in every run, whatever else is in flight.
"""

from __future__ import annotations

import itertools
import random
from dataclasses import dataclass


@dataclass(frozen=True)
class Latency:
    """Seconds at `speed=1`, about those of a small hosted model."""

    first_token_s: float = 0.4
    per_token_s: float = 0.015
    jitter: float = 0.25

    def due_times(self, seed: bytes, *, tokens: int, speed: float) -> list[float]:
        """Return when each token is due, in seconds after the request; never an empty list.

        Each wait differs from its mean by at most the share `jitter`, and is divided by `speed`.

        >>> Latency(0.5, 0.25, jitter=0.0).due_times(b"", tokens=3, speed=2.0)
        [0.25, 0.375, 0.5]
        """
        # random.Random(bytes) hashes with SHA-512: the same in every process, unlike hash().
        draw = random.Random(seed)
        means = [self.first_token_s] + [self.per_token_s] * (tokens - 1)
        waits = (mean * draw.uniform(1 - self.jitter, 1 + self.jitter) / speed for mean in means)
        return list(itertools.accumulate(waits))
