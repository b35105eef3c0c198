"""Tables on the terminal, and a file for programs."""

from __future__ import annotations

import json
import os
import platform
import statistics
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from bench.catalogue import SYSTEMS
from bench.drain import Answer
from bench.scenarios import Scenario
from bench.systems import ROOT
from holdfast import __version__

RESULTS = ROOT / ".bench" / "results.json"


@dataclass
class Measured:
    """The answers of every system to one scenario, or why there is none."""

    scenario: Scenario
    runs: dict[str, list[Answer]] = field(default_factory=dict)
    broken: dict[str, str] = field(default_factory=dict)

    def median(self, system: str) -> Answer:
        """The median of each number."""
        runs = self.runs[system]
        return {key: statistics.median(run[key] for run in runs) for key in runs[0]}

    def ratios(self, system: str) -> dict[str, float]:
        """How many times better holdfast is than a system: by the headline, and by CPU time."""
        if system == "holdfast" or not {system, "holdfast"} <= self.runs.keys():
            return {}
        ours, theirs = self.median("holdfast"), self.median(system)
        name = self.scenario.headline
        found = {
            name: ours[name] / theirs[name] if self.scenario.more else theirs[name] / ours[name]
        }
        for cpu in (key for key in ours if key.startswith("CPU")):
            found[cpu] = theirs[cpu] / ours[cpu] if ours[cpu] else 0.0
        return found


def show(measured: Measured, took_s: float) -> None:
    """Prints the table of one scenario; columns with × say how many times better holdfast is."""
    scenario = measured.scenario
    columns = list(dict.fromkeys(key for runs in measured.runs.values() for key in runs[0]))
    compared = list(dict.fromkeys(key for s in measured.runs for key in measured.ratios(s)))
    table = Table(box=SIMPLE)
    table.add_column("")
    for column in [*columns, *(f"× {key}" for key in compared)]:
        table.add_column(column, justify="right")
    for system in (s for s in scenario.systems if s in measured.runs):
        median, ratios = measured.median(system), measured.ratios(system)
        numbers = [_number(median[column]) for column in columns]
        table.add_row(system, *numbers, *(f"{r:,.2f}" for r in ratios.values()))
    console = Console(width=None if sys.stdout.isatty() else 150)
    title = f"{scenario.name}: {scenario.about} (median of {scenario.repeats}; {took_s:.0f} s)"
    console.print(title, style="bold", markup=False)
    console.print(table)
    for system, reason in measured.broken.items():
        console.print(f"  {system}: not measured: {reason}", markup=False)


def write(results: list[Measured], machine: dict[str, Any]) -> Path:
    """Writes everything, single runs included."""
    document = {
        "machine": machine,
        "systems": {name: facts.settings for name, facts in SYSTEMS.items()},
        "scenarios": {measured.scenario.name: _document(measured) for measured in results},
    }
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(document, indent=2, ensure_ascii=False))
    return RESULTS


def machine(postgresql: str, settings: dict[str, str]) -> dict[str, Any]:
    """What the numbers depend on."""
    return {
        "cpu": _field("/proc/cpuinfo", "model name"),
        "cores": os.cpu_count(),
        "memory": _field("/proc/meminfo", "MemTotal"),
        "kernel": platform.release(),
        "load before": os.getloadavg(),
        "python": platform.python_version(),
        "postgresql": postgresql,
        "postgresql settings": settings,
        "holdfast": __version__,
    }


def _document(measured: Measured) -> dict[str, Any]:
    scenario = measured.scenario
    answers = {
        system: {
            "median": measured.median(system),
            "holdfast is better by": measured.ratios(system),
            "runs": runs,
        }
        for system, runs in measured.runs.items()
    }
    broken = {system: {"not measured": reason} for system, reason in measured.broken.items()}
    return {"about": scenario.about, "headline": scenario.headline, **answers, **broken}


def _number(value: float) -> str:
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:,.1f}" if value >= 10 else f"{value:,.2f}"


def _field(path: str, name: str) -> str:
    try:
        lines = Path(path).read_text().splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(name)), "")
