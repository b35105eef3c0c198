"""`Holdfast`: the one object an application has."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Any, Concatenate, Never, ParamSpec, Protocol, Self, TypeVar, cast, overload

from holdfast.app.client import Client, History
from holdfast.app.explain import Explanation
from holdfast.app.filters import check_limit, check_shown
from holdfast.app.function import (
    JobFunction,
    Request,
    check_count,
    check_priority,
    check_tags,
)
from holdfast.app.handle import Handle
from holdfast.app.operating import Operating
from holdfast.app.running import running
from holdfast.app.settings import (
    DEFAULT_CONCURRENCY,
    Settings,
    changed_settings,
    load_settings,
    read_queues,
)
from holdfast.errors import InvalidJobFunction, InvalidOption, UsageError
from holdfast.model.backoff import Backoff
from holdfast.model.durations import Duration, seconds
from holdfast.model.ids import check_id, check_ids
from holdfast.model.job import Job
from holdfast.model.names import check_name, check_options, unknown
from holdfast.model.text import shown
from holdfast.model.unique import Unique, read_unique
from holdfast.runtime.context import BlockingContext, Context
from holdfast.runtime.definition import Definition, Drift
from holdfast.runtime.worker import WorkerPlan
from holdfast.storage import jobs, migrate
from holdfast.storage.query import Query

P = ParamSpec("P")
R = TypeVar("R")


class JobDecorator(Protocol):
    """What `@app.job(...)` returns: keeps the function's own parameters for `.enqueue`."""

    @overload
    def __call__(
        self, fn: Callable[Concatenate[Context, P], Awaitable[R]], /
    ) -> JobFunction[P, R]: ...
    @overload
    def __call__(
        self, fn: Callable[Concatenate[BlockingContext, P], R], /
    ) -> JobFunction[P, R]: ...
    @overload
    def __call__(self, fn: Callable[P, Awaitable[R]], /) -> JobFunction[P, R]: ...
    @overload
    def __call__(self, fn: Callable[P, R], /) -> JobFunction[P, R]: ...


class Holdfast(Operating):
    """An application's job functions, its settings, and its connections.

    Creating it touches nothing: connections open on first use, in any event loop or thread. DSN and
    schema come from the arguments, else from HOLDFAST_DSN or DATABASE_URL and HOLDFAST_SCHEMA,
    else from `holdfast.toml`. Raises `InvalidSettings` with every problem at once.

    >>> app = Holdfast("postgresql:///example")
    >>> @app.job(queue="agents", max_attempts=5)
    ... async def research(ctx: Context, topic: str) -> str:
    ...     return f"about {topic}"
    >>> research.name
    'research'
    """

    def __init__(
        self,
        dsn: str | None = None,
        *,
        schema: str | None = None,
        queues: Mapping[str, int] | None = None,
        version: str | None = None,
        grace: Duration | None = None,
        worker_name: str | None = None,
        **unknown_options: Never,
    ) -> None:
        known = ("dsn", "schema", "queues", "version", "grace", "worker_name")
        check_options(unknown_options, known, where="Holdfast()")
        self.settings: Settings = load_settings(
            {
                "dsn": dsn,
                "schema": schema,
                "queues": queues,
                "version": version,
                "grace": grace,
                "worker_name": worker_name,
            }
        )
        self.client = Client(self.settings)
        self._registry: dict[str, JobFunction[..., Any]] = {}

    # --- Job functions --------------------------------------------------------------------------

    def job(
        self,
        *,
        queue: str = "default",
        name: str | None = None,
        priority: int = 0,
        max_attempts: int = 20,
        max_crashes: int = 3,
        timeout: Duration | None = None,
        deadline: Duration | None = None,
        backoff: Backoff | None = None,
        drift: Drift = "reuse",
        tags: Sequence[str] = (),
        version: str | None = None,
        unique: bool | Unique = False,
        **unknown_options: Never,
    ) -> JobDecorator:
        """Registers a function, async or plain, as a job; a wrong option fails here.

        `queue`: where it waits. `name`: what the database calls it (default: the function's name).
        `priority`: 0 first to 9 last. `max_attempts`: after so many failures it is discarded.
        `max_crashes`: after so many deaths of its process it stops for a person. `timeout`: of one
        attempt. `deadline`: of the whole job, from the time it is due. `backoff`: a callable
        `(failure_number, error) -> duration`; default `15 + 2^n` s ± 10 %; a `Retry-After` on the
        error wins. `drift`: what a step does that was recorded by other code with other inputs:
        `reuse` its result, `rerun` it, or `stop` for a person. `version`: of this function's code
        (default: the application's, else a digest of its source). `tags`: of every job. `unique`:
        True, or a `Unique`: at most one unfinished job with the same arguments.
        """
        check_options(unknown_options, _JOB_OPTIONS, where="@app.job()")
        if backoff is not None and not callable(backoff):
            raise InvalidOption(f"backoff={shown(backoff)} is not callable", "Pass a function.")
        if drift not in ("reuse", "rerun", "stop"):
            raise InvalidOption(f"drift={drift!r} is unknown", "One of: reuse, rerun, stop.")
        options = {
            "queue": self.client.check_queue(queue),
            "priority": check_priority(priority),
            "max_attempts": check_count(max_attempts, field="max_attempts"),
            "max_crashes": check_count(max_crashes, field="max_crashes"),
            "timeout_s": None if timeout is None else seconds(timeout, field="timeout"),
            "deadline_s": None if deadline is None else seconds(deadline, field="deadline"),
            "backoff": backoff,
            "drift": drift,
            "tags": check_tags(tags),
            "version": version or self.settings.version,
            "unique": read_unique(unique),
        }

        def register(fn: Callable[..., Any]) -> JobFunction[..., Any]:
            return self._register(fn, name, options)

        # The protocol's overloads only name what the parameters are: one function serves all.
        return cast(JobDecorator, register)

    def _register(
        self, fn: Callable[..., Any], name: str | None, options: dict[str, Any]
    ) -> JobFunction[..., Any]:
        if not callable(fn) or isinstance(fn, type):
            hint = "Write @app.job() with parentheses, above a function."
            raise InvalidJobFunction(f"{shown(fn)} is not a function", hint)
        final = check_name(name or getattr(fn, "__name__", None), field="job name")
        if final in self._registry:
            raise InvalidJobFunction(
                f"a job named {final!r} is registered already", "Give one a name=…"
            )
        definition = Definition(name=final, fn=fn, **options)
        try:
            definition.check()
        except NameError:
            # An annotation that is defined further down the module: checked at first use.
            definition = Definition(name=final, fn=fn, **options)
        function: JobFunction[..., Any] = JobFunction(definition, self.client)
        self._registry[final] = function
        return function

    @property
    def job_functions(self) -> Mapping[str, JobFunction[..., Any]]:
        """The registered job functions by name."""
        return dict(self._registry)

    def job_function(self, name: str) -> JobFunction[..., Any]:
        """Returns a registered job function, or raises with the nearest name."""
        if name not in self._registry:
            raise unknown("job", name, self._registry)
        return self._registry[name]

    # --- Enqueue and ask ------------------------------------------------------------------------

    async def enqueue_many(
        self, requests: Sequence[Request[R]], *, conn: object = None
    ) -> list[Handle[R]]:
        """Stores any number of jobs in one statement: all of them or none.

        `requests` come from `job_function.new(...)`. `conn` as in `options(conn=…)`.
        """
        return await self.client.enqueue(list(requests), conn, call="enqueue_many")

    def enqueue_many_sync(
        self, requests: Sequence[Request[R]], *, conn: object = None
    ) -> list[Handle[R]]:
        """Stores any number of jobs in one statement, blocking; see `enqueue_many`."""
        return self.client.enqueue_sync(list(requests), conn, call="enqueue_many")

    def handle(self, job_id: int, name: str | None = None) -> Handle[Any]:
        """Returns the handle of a job enqueued elsewhere; `name` types its result."""
        definition = None if name is None else self.job_function(name).definition
        return Handle(check_id(job_id), self.client, definition)

    async def cancel(
        self, *job_ids: int, reason: str | None = None, conn: object = None
    ) -> dict[int, str]:
        """Cancels jobs; durable at once. Returns each job's state after the call.

        A job that does not run is `cancelled` now; a running one is interrupted and `cancelled`
        when its code has stopped (`executing` until then); a final one stays as it is. With
        `conn`, a connection as in `options(conn=…)`, it happens when your transaction commits;
        until then it holds the jobs' rows. Raises `JobNotFound`.
        """
        return await self.client.cancel(check_ids(job_ids), reason, conn)

    def cancel_sync(
        self, *job_ids: int, reason: str | None = None, conn: object = None
    ) -> dict[int, str]:
        """Cancels jobs, blocking; see `cancel`."""
        return self.client.cancel_sync(check_ids(job_ids), reason, conn)

    async def retry(self, *job_ids: int, conn: object = None) -> dict[int, str]:
        """Runs jobs again at once: failed, cancelled, completed, parked, or in `attention`.

        Finished steps are kept; one more attempt is allowed if all were used. A running job is
        left alone, and so is a finished one whose unique key another job has now. `conn` as in
        `cancel`. Returns each job's state after the call. Raises `JobNotFound`.
        """
        return await self.client.retry(check_ids(job_ids), conn)

    def retry_sync(self, *job_ids: int, conn: object = None) -> dict[int, str]:
        """Runs jobs again, blocking; see `retry`."""
        return self.client.retry_sync(check_ids(job_ids), conn)

    async def explain(self, job_id: int) -> Explanation:
        """Says why a job is not running, and until when."""
        return await self.client.explain(check_id(job_id))

    def explain_sync(self, job_id: int) -> Explanation:
        """Says why a job is not running, blocking."""
        return self.client.explain_sync(check_id(job_id))

    async def history(self, job_id: int) -> History:
        """Returns the job, every attempt that is written down, and every step."""
        return await self.client.history(check_id(job_id))

    def history_sync(self, job_id: int) -> History:
        """Returns the job with its attempts and steps, blocking."""
        return self.client.history_sync(check_id(job_id))

    async def jobs(
        self,
        *,
        ids: Sequence[int] | None = None,
        state: str | None = None,
        queue: str | None = None,
        name: str | None = None,
        tag: str | None = None,
        before_id: int | None = None,
        limit: int = 50,
    ) -> list[Job]:
        """Lists jobs, newest first. `state` as shown: also scheduled, retryable, waiting."""
        query = _listing(
            ids=ids, queue=queue, name=name, tag=tag, state=state, before_id=before_id, limit=limit
        )
        return await self.client.find(query)

    def jobs_sync(
        self,
        *,
        ids: Sequence[int] | None = None,
        state: str | None = None,
        queue: str | None = None,
        name: str | None = None,
        tag: str | None = None,
        before_id: int | None = None,
        limit: int = 50,
    ) -> list[Job]:
        """Lists jobs, newest first, blocking; see `jobs`."""
        query = _listing(
            ids=ids, queue=queue, name=name, tag=tag, state=state, before_id=before_id, limit=limit
        )
        return self.client.find_sync(query)

    # --- Schema ---------------------------------------------------------------------------------

    def migrate(self) -> list[int]:
        """Brings the schema up to date; returns the versions applied. Blocking, safe to repeat."""
        return migrate.migrate(self.client.dsn, self.settings.schema)

    def schema_version(self) -> tuple[int, int]:
        """Returns the installed version (0: none) and the one this package needs. Blocking."""
        installed = migrate.read_version(self.client.dsn, self.settings.schema)
        return installed, migrate.latest_version()

    def schema_sql(self, *, after: int = 0) -> str:
        """Returns the migrations after a version as one SQL script."""
        return migrate.sql(self.settings.schema, after=after)

    # --- Running --------------------------------------------------------------------------------

    def running(
        self, *, queues: Mapping[str, int] | None = None
    ) -> AbstractAsyncContextManager[None]:
        """Runs jobs inside this application for as long as the block lasts.

        Leaving the block stops claiming, lets jobs finish for `grace`, hands the rest back. A
        thread renews the lease, so code that blocks the loop does not cost it; a killed process
        does, and its jobs run elsewhere.
        """
        return running(self.worker_plan(queues))

    def worker_plan(self, queues: Mapping[str, int] | str | None = None) -> WorkerPlan:
        """Returns what a worker of this application does; raises on unknown queues."""
        if not self._registry:
            raise UsageError(
                "this application has no job functions", "Import the modules with @app.job first."
            )
        named = {f.definition.queue: DEFAULT_CONCURRENCY for f in self._registry.values()}
        configured = dict(self.settings.queues) or named
        if queues is not None:
            asked = read_queues(queues)
            for queue in asked:
                if queue not in configured and queue not in named:
                    raise unknown("queue", queue, {**configured, **named})
            configured = asked
        return WorkerPlan(
            dsn=self.client.dsn,
            schema=self.settings.schema,
            queues=configured,
            registry={name: f.definition for name, f in self._registry.items()},
            grace_s=self.settings.grace_s,
            name=self.settings.worker_name,
            closed=queues is not None or bool(self.settings.queues),
        )

    async def close(self) -> None:
        """Closes the connections opened in this event loop; the next use opens again."""
        await self.client.close()

    def close_sync(self) -> None:
        """Closes the blocking connections."""
        self.client.close_sync()

    async def __aenter__(self) -> Self:
        """Opens the connections and checks the schema now instead of at first use."""
        await self.client.database.open()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    def with_settings(self, **changes: Any) -> Holdfast:
        """Returns this application with other `Settings` fields and the same job functions.

        Take the job functions from the copy: those of the original still use the original's.
        """
        copy = Holdfast.__new__(Holdfast)
        copy.settings = changed_settings(self.settings, changes)
        copy.client = Client(copy.settings)
        copy._registry = {
            name: JobFunction(f.definition, copy.client) for name, f in self._registry.items()
        }
        return copy

    def point_at(self, *, dsn: str | None = None, schema: str | None = None) -> None:
        """Points this very application at another database; for commands, before its first use.

        Its job functions follow, so that a job that enqueues another does it there, too.
        """
        given = {"dsn": dsn, "schema": schema}
        changes = {key: value for key, value in given.items() if value is not None}
        self.settings = changed_settings(self.settings, changes)
        self.client.settings = self.settings


def _listing(
    *,
    ids: Sequence[int] | None,
    before_id: int | None,
    state: str | None,
    limit: int,
    **names: str | None,
) -> Query[list[Job]]:
    check_shown(state)
    check_limit(limit)
    return jobs.find(
        ids=None if ids is None else check_ids(ids, field="ids"),
        before_id=None if before_id is None else check_id(before_id, field="before_id"),
        shown=state,
        limit=limit,
        **{
            field: None if value is None else check_name(value, field=field)
            for field, value in names.items()
        },
    )


_JOB_OPTIONS = (
    "queue", "name", "priority", "max_attempts", "max_crashes", "timeout", "deadline", "backoff",
    "drift", "tags", "version", "unique",
)  # fmt: skip
