"""What processes cost, read from /proc: CPU time is steadier than wall time on a busy machine."""

from __future__ import annotations

import os
from collections import defaultdict
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")
_PARENT, _USER, _CHILDREN_SYSTEM = 1, 11, 14  # fields of /proc/PID/stat, after the name


def cpu_of_tree(root: int, *, without: int | None = None) -> float:
    """Returns the CPU seconds of a process and its descendants, ended ones included.

    `without` leaves one process out: the server's process of the session that watches.
    """
    return sum(_cpu(pid) for pid in tree(root) if pid != without)


def tree(root: int) -> list[int]:
    """Returns the ids of a process and all its living descendants."""
    children: dict[int, list[int]] = defaultdict(list)
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and (fields := _stat(int(entry.name))):
            children[int(fields[_PARENT])].append(int(entry.name))
    found, new = [root], children[root]
    while new:
        found += new
        new = [child for pid in new for child in children[pid]]
    return found


def busy_of_machine() -> float:
    """Returns the CPU seconds that anybody used so far, all cores together, stolen ones too."""
    first = Path("/proc/stat").read_text().splitlines()[0].split()
    user, nice, system, _idle, _waiting, irq, softirq, stolen = map(int, first[1:9])
    return (user + nice + system + irq + softirq + stolen) / _TICKS


def memory_mb(pid: int) -> dict[str, float]:
    """Returns what a process keeps in memory: all of it, and what only it has."""
    kilobytes: dict[str, int] = defaultdict(int)
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]:
        name, value = line.split(":")
        kilobytes[name] += int(value.split()[0])
    own = kilobytes["Private_Clean"] + kilobytes["Private_Dirty"]
    return {"rss MB": kilobytes["Rss"] / 1024, "uss MB": own / 1024}


def _cpu(pid: int) -> float:
    fields = _stat(pid)
    return sum(map(int, fields[_USER : _CHILDREN_SYSTEM + 1])) / _TICKS if fields else 0.0


def _stat(pid: int) -> list[str]:
    """The fields after the name, which may hold spaces; none when the process is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []
