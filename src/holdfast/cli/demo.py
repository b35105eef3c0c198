"""`holdfast demo`: a dozen agents, one killed worker, nothing repeated, nothing lost.

Everything is real: an embedded PostgreSQL, worker processes, an LLM over HTTP, SIGKILL. The
provider's ledger and the journal are compared at the end, and the exit code is the verdict.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import click
from rich.console import Console

from holdfast import EmbeddedPostgres, Handle, Holdfast
from holdfast.cli import demo_agents
from holdfast.cli.demo_screen import Screen, summary_table
from holdfast.cli.demo_verdict import Evidence, judge, read_calls

_AGENTS = 12
_PROCESSES = 2
_KILL_AT = 0.35
_LIMIT_S = 180.0
_PACKAGES = (
    "argparse", "asyncio", "collections", "concurrent.futures", "email", "http", "importlib",
    "json", "logging", "multiprocessing", "statistics", "unittest",
)  # fmt: skip
_SUFFIXES = (".md", ".txt", ".rst", ".py", ".html")


@click.command()
@click.argument("paths", nargs=-1, type=click.Path(exists=True, path_type=Path))
@click.option("--agents", type=click.IntRange(1, 100), help="At most so many; default a dozen.")
@click.option("--speed", type=float, default=1.0, help="Divides the simulated provider's latency.")
@click.option("--json", "as_json", is_flag=True, help="Print only the DEMO line.")
def demo(paths: tuple[Path, ...], agents: int | None, speed: float, *, as_json: bool) -> None:
    """Run research agents on real documents, kill a worker, and watch them resume.

    PATHS are documents or folders of documents; by default the documentation of Python's own
    standard library and its licence. The LLM endpoint is yours if OPENAI_BASE_URL is set, else
    a simulated one on this machine. Exit code 0 only if every promise was kept.
    """
    console = Console(quiet=as_json, highlight=False)
    sources = _sources(paths, agents or _AGENTS)
    evidence = _run(sources, speed, console)
    verdict = judge(evidence)
    if not as_json:
        console.print(summary_table(evidence, verdict))
    for problem in verdict.problems:
        click.echo(f"NOT AS PROMISED: {problem}", err=True)
    click.echo("DEMO " + json.dumps(verdict.numbers))
    sys.exit(0 if verdict.kept else 1)


def _sources(paths: tuple[Path, ...], count: int) -> list[demo_agents.Source]:
    if not paths:
        packages = [demo_agents.Source("module", name) for name in _PACKAGES]
        licence = _licence()
        if licence is not None:
            packages[-1] = licence
        return packages[:count]
    files = [file for path in paths for file in _documents(path)]
    if not files:
        raise click.UsageError(
            f"no documents ({', '.join(_SUFFIXES)}) in {', '.join(map(str, paths))}"
        )
    return [demo_agents.Source("file", str(file.resolve())) for file in files[:count]]


def _documents(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    return sorted(p for p in path.rglob("*") if p.suffix in _SUFFIXES and p.stat().st_size > 400)


def _licence() -> demo_agents.Source | None:
    places = [Path(os.__file__).parent / "LICENSE.txt", Path("/usr/share/common-licenses/GPL-3")]
    found = next((place for place in places if place.is_file()), None)
    return None if found is None else demo_agents.Source("file", str(found))


def _run(sources: list[demo_agents.Source], speed: float, console: Console) -> Evidence:
    started = time.monotonic()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="holdfast-demo-")))
        # As root the server runs as another account, which must be able to pass through.
        folder.chmod(0o711)
        server = stack.enter_context(EmbeddedPostgres(folder / "pg"))
        console.print(f"PostgreSQL {server.version}, embedded")
        app = demo_agents.app
        app.point_at(dsn=server.dsn)
        app.migrate()
        stack.callback(app.close_sync)
        ledger = folder / "ledger.jsonl"
        base_url = stack.enter_context(_provider(ledger, speed, console))
        worker = stack.enter_context(_worker(server.dsn, base_url, folder / "worker.log"))
        app.job_function("prepare").enqueue_sync().result_sync(timeout=60)
        research = app.job_function("research")
        handles = app.enqueue_many_sync([research.new(source) for source in sources])
        console.print(f"{len(handles)} agents, {_PROCESSES} worker processes\n")
        evidence = _follow(app, handles, sources, ledger, worker, console)
        evidence.report_jobs = app.job_function("written_reports").enqueue_sync().result_sync(60)
        evidence.calls = read_calls(ledger)
        evidence.seconds = round(time.monotonic() - started, 1)
        return evidence


@contextmanager
def _provider(ledger: Path, speed: float, console: Console) -> Iterator[str]:
    """Runs the LLM endpoint, or a recording pass-through to the user's own."""
    command = [sys.executable, "-m", "holdfast.testing.provider", "--ledger", str(ledger)]
    upstream = os.environ.get("OPENAI_BASE_URL")
    if upstream:
        command += ["--upstream", upstream.rstrip("/").removesuffix("/v1")]
        console.print(f"LLM endpoint: yours, {upstream}, through a recording pass-through")
    else:
        command += ["--speed", str(speed)]
        console.print("LLM endpoint: simulated, extractive (set OPENAI_BASE_URL to use yours)")
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        base_url = process.stdout.readline().strip()
        if not base_url:
            raise click.ClickException("the LLM endpoint did not start")
        yield base_url
    finally:
        process.terminate()
        process.wait(10)


@contextmanager
def _worker(dsn: str, base_url: str, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Runs `holdfast worker` with two processes."""
    command = [sys.executable, "-m", "holdfast", "worker", "holdfast.cli.demo_agents:app"]
    command += ["--processes", str(_PROCESSES)]
    environment = {**os.environ, "HOLDFAST_DSN": dsn, "HOLDFAST_SCHEMA": "holdfast"}
    environment["OPENAI_BASE_URL"] = base_url
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, env=environment)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _follow(
    app: Holdfast,
    handles: list[Handle[demo_agents.Report]],
    sources: list[demo_agents.Source],
    ledger: Path,
    worker: subprocess.Popen[bytes],
    console: Console,
) -> Evidence:
    """Shows the bars until every agent has ended; kills one worker on the way."""
    evidence = Evidence(agents=len(handles))
    ids = [handle.id for handle in handles]
    names = {h.id: Path(s.name).name for h, s in zip(handles, sources, strict=True)}
    deadline = time.monotonic() + _LIMIT_S
    with Screen(console, names) as screen:
        while True:
            jobs = app.jobs_sync(ids=ids, limit=len(ids))
            screen.show(jobs)
            if evidence.killed_pid is None:
                _maybe_kill(app, ids, ledger, evidence, screen)
            if all(job.finished_at or job.state == "attention" for job in jobs):
                break
            if time.monotonic() > deadline or worker.poll() is not None:
                break
            time.sleep(0.2)
    evidence.histories = [app.history_sync(job_id) for job_id in ids]
    return evidence


def _maybe_kill(
    app: Holdfast, ids: list[int], ledger: Path, evidence: Evidence, screen: Screen
) -> None:
    """Kills the worker with most calls in flight, once a good part of the work is recorded."""
    calls = read_calls(ledger)
    done = sum(1 for call in calls if call.status == 200)
    if done < _KILL_AT * len(ids) * 6:
        return
    busy: dict[int, int] = {}
    for call in calls:
        if call.ended_at is None and call.client is not None:
            busy[int(call.client)] = busy.get(int(call.client), 0) + 1
    live = {worker.pid: worker for worker in app.workers_sync()}
    victims = [pid for pid in busy if pid in live and live[pid].running]
    if not victims:
        return
    pid = max(victims, key=lambda p: busy[p])
    os.kill(pid, signal.SIGKILL)
    evidence.killed_pid = pid
    evidence.killed_at = time.time()
    screen.say(
        f"kill -9 {pid}: a worker with {live[pid].running} agents and {busy[pid]} calls in flight"
    )
