"""A worker's process tree that is started again when the code changes."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

_GRACE_S = 1.0
_KILL_AFTER_S = 10.0
_SKIPPED = frozenset({"__pycache__", "node_modules", "site-packages"})


class CodeWatch:
    """Knows the .py files below a folder, and says which ones changed since it was asked last."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._seen = self._look()

    def changes(self) -> list[str]:
        """Returns the files that are new, gone, or written since the last call, sorted."""
        before, self._seen = self._seen, self._look()
        names = before.keys() | self._seen.keys()
        changed = [name for name in names if before.get(name) != self._seen.get(name)]
        return sorted(os.path.relpath(name, self._folder) for name in changed)

    def _look(self) -> dict[str, tuple[int, int]]:
        found = {}
        for folder, names, files in os.walk(self._folder):
            names[:] = [name for name in names if not _is_skipped(folder, name)]
            for name in files:
                if name.endswith(".py"):
                    path = os.path.join(folder, name)
                    try:
                        status = os.stat(path)
                    except OSError:
                        continue  # removed meanwhile
                    found[path] = (status.st_mtime_ns, status.st_size)
        return found


def _is_skipped(folder: str, name: str) -> bool:
    """Hidden folders and virtual environments hold no code that is being written."""
    if name.startswith(".") or name in _SKIPPED:
        return True
    return os.path.exists(os.path.join(folder, name, "pyvenv.cfg"))


def folder_of(target: str) -> Path:
    """Returns the folder whose code a target is part of: the file's own, or the current one."""
    module, _, _ = target.partition(":")
    return Path(module).resolve().parent if module.endswith(".py") else Path.cwd()


class WorkerTree:
    """One `holdfast worker` with its processes; stopped within seconds, whatever its jobs do."""

    def __init__(
        self, arguments: Sequence[str], environment: Mapping[str, str], output: int | None
    ) -> None:
        # -P: a queue.py of the user's must not stand in for the standard library's.
        command = [sys.executable, "-P", "-m", "holdfast", "worker", "--stop-with-stdin"]
        self._command = [*command, *arguments]
        self._environment = dict(environment)
        self._output = output
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def exit_code(self) -> int | None:
        """The exit code if it has ended by itself."""
        return None if self._process is None else self._process.poll()

    def start(self) -> None:
        """Starts it."""
        self._process = subprocess.Popen(
            self._command,
            # Held open for as long as we live: its end tells the worker to stop.
            stdin=subprocess.PIPE,
            stdout=self._output,
            env=self._environment,
            # A Ctrl-C in the terminal reaches us, and we stop it.
            process_group=0,
        )

    def stop(self) -> None:
        """Stops it: a moment to finish, then its jobs are handed back, then it is killed."""
        process, self._process = self._process, None
        if process is None:
            return
        for wait_s in (_GRACE_S, _KILL_AFTER_S):
            if process.poll() is not None:
                break
            process.terminate()
            _wait(process, wait_s)
        if process.poll() is None:
            process.kill()
        process.wait()
        if process.stdin is not None:
            process.stdin.close()


def _wait(process: subprocess.Popen[bytes], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
