"""The demo's application: research agents that read documents and call an LLM over HTTP.

This is what a user's own module looks like; nothing in it knows that a worker will be killed.
"""

from __future__ import annotations

import ast
import json
import os
import urllib.request
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit

from holdfast import Context, Holdfast, Retry, current_step, step

app = Holdfast(queues={"agents": 6, "desk": 1}, version="demo-1")

_PARTS = 8
_MIN_CHARS = 800
_MAX_CHARS = 9_000


@dataclass
class Source:
    """A document: a file, or the documentation strings of a standard-library package."""

    kind: str
    name: str


@dataclass
class Part:
    """One piece of a document, small enough for one call."""

    number: int
    text: str


@dataclass
class Summary:
    """What the LLM said, and what it cost."""

    text: str
    tokens: int


@dataclass
class Report:
    """An agent's result."""

    title: str
    summary: str
    parts: int
    tokens: int


def read_parts(source: Source) -> list[Part]:
    """Reads a document and splits it at paragraphs into about equal parts."""
    text = _documentation(source.name) if source.kind == "module" else _file(source.name)
    size = min(_MAX_CHARS, max(_MIN_CHARS, len(text) // _PARTS + 1))
    parts: list[str] = [""]
    for paragraph in text.split("\n\n"):
        if parts[-1] and len(parts[-1]) + len(paragraph) > size:
            parts.append("")
        parts[-1] += paragraph[:_MAX_CHARS] + "\n\n"
    return [Part(n, part.strip()) for n, part in enumerate(parts[:_PARTS], 1)]


@step(retry=Retry(5, delay=0.5), timeout="60s")
def summarise(part: Part) -> Summary:
    """Asks the LLM about one part."""
    return _ask("Summarise the text in 2 sentences.", part.text)


@step(retry=Retry(5, delay=0.5), timeout="60s")
def merge(title: str, summaries: list[Summary]) -> Summary:
    """Asks the LLM for one report from the summaries."""
    body = "\n\n".join(summary.text for summary in summaries)
    return _ask(f"Merge these notes on {title} into a report in 4 sentences.", body)


@app.job(queue="agents", max_attempts=3, timeout="5m")
async def research(ctx: Context, source: Source) -> Report:
    """Reads, summarises the parts in parallel, merges, and writes a report: resumable anywhere."""
    title = Path(source.name).name
    await ctx.progress(0.02, "reading")
    parts = await ctx.step(read_parts, source)
    summaries = await ctx.map(
        summarise,
        parts,
        key=lambda part: part.number,
        limit=3,
        progress=(0.05, 0.85, "summarising"),
    )
    await ctx.progress(0.9, "merging")
    merged = await ctx.step(merge, title, summaries)
    tokens = merged.tokens + sum(summary.tokens for summary in summaries)
    async with ctx.transaction("write report") as conn:
        await conn.execute(
            "INSERT INTO demo_report (job_id, title, summary, parts) VALUES (%s, %s, %s, %s)",
            [ctx.job_id, title, merged.text, len(parts)],
        )
    await ctx.progress(1, "report written")
    return Report(title, merged.text, len(parts), tokens)


@app.job(queue="desk")
async def prepare(ctx: Context) -> None:
    """Makes the user's table."""
    async with ctx.transaction("create table") as conn:
        await conn.execute(
            "CREATE TABLE IF NOT EXISTS demo_report ("
            "id bigserial PRIMARY KEY, job_id bigint NOT NULL, title text NOT NULL, "
            "summary text NOT NULL, parts integer NOT NULL)"
        )


@app.job(queue="desk")
async def written_reports(ctx: Context) -> list[int]:
    """Returns the job id of every report in the table: each agent must be there exactly once."""
    async with ctx.transaction("count") as conn:
        rows = await conn.execute("SELECT job_id FROM demo_report ORDER BY id")
        return [row[0] for row in await rows.fetchall()]


def _ask(instruction: str, text: str) -> Summary:
    base = os.environ["OPENAI_BASE_URL"].rstrip("/")
    body = {
        "model": os.environ.get("OPENAI_MODEL", "gpt-4o-mini"),
        "messages": [
            {"role": "system", "content": instruction},
            {"role": "user", "content": text},
        ],
        "max_tokens": 200,
    }
    request = urllib.request.Request(
        f"{base}/chat/completions",
        data=json.dumps(body).encode(),
        headers={
            "Content-Type": "application/json",
            "Authorization": f"Bearer {os.environ.get('OPENAI_API_KEY', 'none')}",
            # The same for every try of this step: a provider that honours it bills once.
            "Idempotency-Key": current_step().idempotency_key,
            "X-Client-Pid": str(os.getpid()),
        },
    )
    with _opener(base).open(request, timeout=60) as response:
        answer = json.load(response)
    content = answer["choices"][0]["message"]["content"]
    return Summary(content, answer["usage"]["total_tokens"])


def _opener(base: str) -> urllib.request.OpenerDirector:
    """A proxy from the environment must not be asked for the provider on this machine."""
    if urlsplit(base).hostname in ("127.0.0.1", "localhost", "::1"):
        return urllib.request.build_opener(urllib.request.ProxyHandler({}))
    return urllib.request.build_opener()


def _file(name: str) -> str:
    return Path(name).read_text("utf-8", "replace").replace("\x00", "")


def _documentation(package: str) -> str:
    """The documentation strings of a package's source, read without importing it."""
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        raise LookupError(f"there is no source of {package!r}")
    origin = Path(spec.origin)
    files = sorted(origin.parent.glob("*.py")) if origin.name == "__init__.py" else [origin]
    texts = []
    for file in files:
        tree = ast.parse(file.read_text("utf-8", "replace"))
        for node in ast.walk(tree):
            if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
                texts.append(ast.get_docstring(node) or "")
    return "\n\n".join(filter(None, texts))
