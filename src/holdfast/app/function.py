"""Job functions as users hold them: typed enqueueing, with options apart from arguments."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cache, cached_property
from typing import (
    TYPE_CHECKING,
    Any,
    Generic,
    Literal,
    NamedTuple,
    Never,
    ParamSpec,
    TypeVar,
)

from pydantic import JsonValue, TypeAdapter, ValidationError
from pydantic_core import PydanticSerializationError, to_json

from holdfast.errors import InvalidOption, Unserialisable
from holdfast.model.durations import Duration, seconds
from holdfast.model.job import JobTemplate, NewJob
from holdfast.model.jsonb import check_json, odd_floats, too_large
from holdfast.model.names import check_name, check_options
from holdfast.model.text import error_line, shown
from holdfast.model.unique import Unique, read_unique
from holdfast.runtime.definition import Definition

if TYPE_CHECKING:
    from holdfast.app.client import Client
    from holdfast.app.handle import Handle

P = ParamSpec("P")
R = TypeVar("R")

_MAX_TAGS = 20
_MAX_META_BYTES = 64 * 1024
_PLAIN = "Use plain JSON values: dict, list, str, int, float, bool, None."
_YEARS = "Years 1970 to 9000, in UTC."


@dataclass(frozen=True, slots=True, kw_only=True)
class EnqueueOptions:
    """How and when one job is to run; what is None comes from the job function."""

    run_in_s: float | None = None
    run_at: datetime | None = None
    priority: int | None = None
    queue: str | None = None
    max_attempts: int | None = None
    deadline_s: float | None = None
    tags: tuple[str, ...] | None = None
    meta_json: str | None = None
    unique: Unique | Literal[False] | None = None
    conn: object = None

    @property
    def has_two_times(self) -> bool:
        """True when it is said twice, in different ways, when the job is to run."""
        return self.run_in_s is not None and self.run_at is not None


class Request(NamedTuple, Generic[R]):
    """One job that is ready to be enqueued: validated, nothing stored yet."""

    definition: Definition
    job: NewJob


class JobFunction(Generic[P, R]):
    """A registered job function: call `enqueue` with its own arguments."""

    def __init__(
        self, definition: Definition, client: Client, options: EnqueueOptions | None = None
    ) -> None:
        self.definition = definition
        self.client = client
        self._options = options or EnqueueOptions()
        self.__doc__ = definition.fn.__doc__

    def __repr__(self) -> str:
        return f"<job function {self.name!r}>"

    @property
    def name(self) -> str:
        """The name the job has in the database."""
        return self.definition.name

    @property
    def fn(self) -> Callable[..., Any]:
        """The function as it was written, for unit tests."""
        return self.definition.fn

    async def enqueue(self, *args: P.args, **kwargs: P.kwargs) -> Handle[R]:
        """Stores one job and returns its handle; it runs once the transaction has committed.

        Without `options(conn=…)` that is now, in a transaction of its own: one statement. Raises
        `InvalidArguments` when the arguments do not fit the signature, `Unserialisable` or
        `TooLarge` when they cannot be stored, `DatabaseUnavailable` when no server answers.
        """
        handles = await self.client.enqueue([self._new(*args, **kwargs)], self._options.conn)
        return handles[0]

    def enqueue_sync(self, *args: P.args, **kwargs: P.kwargs) -> Handle[R]:
        """Stores one job and returns its handle, blocking; see `enqueue`."""
        handles = self.client.enqueue_sync([self._new(*args, **kwargs)], self._options.conn)
        return handles[0]

    def new(self, *args: P.args, **kwargs: P.kwargs) -> Request[R]:
        """Returns a validated job for `app.enqueue_many`, without storing anything."""
        if self._options.conn is not None:
            raise InvalidOption("new() has no use for conn", "Write enqueue_many(..., conn=conn).")
        return self._new(*args, **kwargs)

    def _new(self, *args: P.args, **kwargs: P.kwargs) -> Request[R]:
        if not args and not kwargs:
            return self._without_arguments
        return self._request(args, kwargs)

    @cached_property
    def _without_arguments(self) -> Request[R]:
        """What a call without arguments makes: always the same."""
        return self._request((), {})

    def _request(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Request[R]:
        args_json = self.definition.encode(args, kwargs, with_defaults=self._by_arguments)
        return Request(self.definition, NewJob(self._template, args_json))

    @cached_property
    def _template(self) -> JobTemplate:
        definition, options = self.definition, self._options
        return JobTemplate(
            name=definition.name,
            queue=options.queue or definition.queue,
            priority=definition.priority if options.priority is None else options.priority,
            run_in_s=options.run_in_s,
            run_at=options.run_at,
            deadline_in_s=(
                definition.deadline_s if options.deadline_s is None else options.deadline_s
            ),
            max_attempts=options.max_attempts or definition.max_attempts,
            max_crashes=definition.max_crashes,
            tags=definition.tags if options.tags is None else options.tags,
            meta_json=options.meta_json,
            code_version=definition.code_version,
            unique_json=self._unique.to_json() if self._unique else None,
        )

    @property
    def _unique(self) -> Unique | Literal[False] | None:
        given = self._options.unique
        return self.definition.unique if given is None else given

    @cached_property
    def _by_arguments(self) -> bool:
        """Whether the jobs are compared by their arguments."""
        return isinstance(self._unique, Unique) and self._unique.key is None

    def options(
        self,
        *,
        run_in: Duration | None = None,
        run_at: datetime | None = None,
        priority: int | None = None,
        queue: str | None = None,
        max_attempts: int | None = None,
        deadline: Duration | None = None,
        tags: list[str] | tuple[str, ...] | None = None,
        meta: Mapping[str, JsonValue] | None = None,
        unique: bool | str | Unique | None = None,
        conn: object = None,
        **unknown: Never,
    ) -> JobFunction[P, R]:
        """Returns the same function with options for the jobs it will enqueue.

        `run_in` (seconds, "5m", timedelta) or `run_at` (aware datetime): not before. `priority`:
        0 first to 9 last. `deadline`: from the time it is due; then the job is discarded. `tags`,
        `meta`: kept with the job. `unique`: a key, True for all arguments, a `Unique`, or False:
        see there; the handle's `conflict` says whether the job was there already. `conn`: a
        connection of yours, or that of a `ctx.transaction()`: the job exists when your transaction
        commits and never if it rolls back; we neither commit nor retry there, and a refusal leaves
        it usable. It may be a connection of psycopg or asyncpg, a session or connection of
        SQLAlchemy, or a DB-API cursor or connection; async ones for `enqueue`, blocking ones for
        `enqueue_sync`.
        """
        check_options(unknown, _OPTION_NAMES, where=f"{self.name}.options()")
        old = self._options
        given = {
            "run_in_s": None if run_in is None else seconds(run_in, field="run_in"),
            "run_at": None if run_at is None else check_time(run_at, field="run_at"),
            "priority": None if priority is None else check_priority(priority),
            "queue": None if queue is None else self.client.check_queue(queue),
            "max_attempts": check_count(max_attempts, field="max_attempts"),
            "deadline_s": None if deadline is None else seconds(deadline, field="deadline"),
            "tags": None if tags is None else check_tags(tags),
            "meta_json": None if meta is None else _meta(meta),
            "unique": None if unique is None else self._check_unique(unique),
            "conn": conn,
        }
        changes: dict[str, Any] = {k: v for k, v in given.items() if v is not None}
        if replace(old, **changes).has_two_times:
            raise InvalidOption("run_in and run_at are both given", "Give one of them.")
        return JobFunction(self.definition, self.client, replace(old, **changes))

    def _check_unique(self, value: object) -> Unique | Literal[False]:
        unique = read_unique(value)
        if unique is None:
            return False
        self.definition.check_unique(unique)
        return unique


_OPTION_NAMES = (
    "run_in", "run_at", "priority", "queue", "max_attempts", "deadline", "tags", "meta",
    "unique", "conn",
)  # fmt: skip


def check_priority(value: object) -> int:
    """Returns a priority, 0 (first) to 9 (last), or raises."""
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= 9:
        raise InvalidOption(f"priority={shown(value)} is not 0..9", "0 runs first, 9 last.")
    return value


def check_count(value: object, *, field: str) -> int | None:
    """Returns a number ≥ 1 that fits the column, or None if nothing is given; else raises."""
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= 1_000_000:
        raise InvalidOption(f"{field}={shown(value)} is not a number ≥ 1", "1 means: no retries.")
    return value


def check_time(value: object, *, field: str) -> datetime:
    """Returns an aware datetime that PostgreSQL and Python both can hold, or raises."""
    if not isinstance(value, datetime):
        raise InvalidOption(f"{field}={shown(value)} is not a datetime", "Or use run_in.")
    try:
        if value.utcoffset() is None:
            raise InvalidOption(
                f"{field}={shown(value)} has no time zone", "Write datetime(..., tzinfo=UTC)."
            )
        # In UTC: an offset may have a fraction of a second, which PostgreSQL does not read.
        value = value.astimezone(UTC)
    except (OverflowError, ValueError) as error:
        raise InvalidOption(f"{field}={shown(value)} is out of range: {error}", _YEARS) from None
    if not 1970 <= value.year <= 9000:
        raise InvalidOption(f"{field}={shown(value)} is out of range", _YEARS)
    return value


def check_tags(tags: object) -> tuple[str, ...]:
    """Returns tags, each once, in order; or raises."""
    if isinstance(tags, str) or not isinstance(tags, (list, tuple, set, frozenset)):
        raise InvalidOption(f"tags={shown(tags)} is not a list", "Write tags=['a', 'b'].")
    checked = tuple(dict.fromkeys(check_name(tag, field="tag") for tag in tags))
    if len(checked) > _MAX_TAGS:
        raise InvalidOption(f"{len(checked)} tags are given", f"At most {_MAX_TAGS}.")
    return checked


def _meta(meta: object) -> str:
    if not isinstance(meta, Mapping) or not all(isinstance(key, str) for key in meta):
        raise InvalidOption(f"meta={shown(meta)} is not a mapping", "Keys are strings.")
    try:
        plain = _meta_adapter().validate_python(dict(meta), strict=True)
        data = to_json(plain, inf_nan_mode="constants")
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        where = shown(".".join(map(str, first["loc"])), limit=120)
        raise Unserialisable(
            f"meta cannot be stored: {where}: {first['msg']} (got {shown(first['input'])})", _PLAIN
        ) from None
    except (PydanticSerializationError, ValueError, RecursionError) as error:
        raise Unserialisable(f"meta cannot be stored: {error_line(error)}", _PLAIN) from None
    if odd_floats(plain):
        raise Unserialisable("meta contains NaN or an infinity", "JSON has no form for them.")
    if len(data) > _MAX_META_BYTES:
        raise too_large(data, field="meta", cap=_MAX_META_BYTES)
    text = data.decode()
    check_json(text, field="meta", source=plain)
    return text


@cache
def _meta_adapter() -> TypeAdapter[dict[str, JsonValue]]:
    return TypeAdapter(dict[str, JsonValue])
