"""`python -m bench [SCENARIO…] [--peers a,b] [--quick]`: measures, prints tables, writes JSON."""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import time
from pathlib import Path

import click
import psycopg

from bench.catalogue import SYSTEMS
from bench.report import Measured, machine, show, write
from bench.scenarios import NAMES, PEERS, Scenario, scenarios
from bench.stage import Stage
from bench.systems import DoesNotRun
from holdfast import EmbeddedPostgres

_SETTINGS = {"shared_buffers": "1GB", "max_wal_size": "4GB"}


@click.command()
@click.argument("chosen", nargs=-1, metavar="[SCENARIO…]", type=click.Choice(NAMES))
@click.option("--peers", default=",".join(PEERS), show_default=True, help="Which ones to run.")
@click.option("--quick", is_flag=True, help="Smaller, and each once: about four minutes.")
def main(chosen: tuple[str, ...], peers: str, *, quick: bool) -> None:
    """Measure holdfast beside bare SQL and its peers, on one server, in turns."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that nothing is left running
    asked = set(filter(None, peers.split(",")))
    if unknown := asked - set(PEERS):
        raise click.BadParameter(f"unknown: {', '.join(sorted(unknown))}; known: {PEERS}")
    wanted = [s for s in scenarios(quick=quick) if not chosen or s.name in chosen]
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="holdfast-bench-") as folder:
        Path(folder).chmod(0o711)
        with EmbeddedPostgres(Path(folder) / "pg", settings=_SETTINGS) as server:
            _warn()
            facts = machine(server.version, _SETTINGS)
            stage = Stage(server)
            results: list[Measured] = []
            for scenario in wanted:
                results.append(_measure(stage, scenario, asked))
                path = write(results, facts)  # each time: an interrupted run is worth something
    print(f"{time.monotonic() - started:.0f} s; written to {path}")
    # A peer that does not run is a result; our own failure is one, too, but not a success.
    if any(system in measured.broken for measured in results for system in ("holdfast", "bare")):
        sys.exit(1)


def _warn() -> None:
    print("Columns with ×: how many times better holdfast is. Systems take turns.")
    busy, cores = os.getloadavg()[0], os.cpu_count() or 1
    if busy > cores / 4:
        print(f"The machine is busy (load {busy:.1f}, {cores} cores): look at CPU, not at rates.")
    print()


def _measure(stage: Stage, scenario: Scenario, asked: set[str]) -> Measured:
    """Runs the systems in turns, so that a slow minute of the machine hits all of them."""
    measured, started = Measured(scenario), time.monotonic()
    systems = [s for s in scenario.systems if not SYSTEMS[s].peer or s in asked]
    for _ in range(scenario.repeats):
        for system in systems:
            if system in measured.broken:
                continue
            try:
                answer = scenario.run(stage, SYSTEMS[system])
            except (DoesNotRun, psycopg.Error, OSError) as error:
                measured.broken[system] = str(error) or type(error).__name__
            else:
                measured.runs.setdefault(system, []).append(answer)
    show(measured, time.monotonic() - started)
    return measured


if __name__ == "__main__":
    main()
