"""A handle: one job's id, and what can be asked of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar, cast

from holdfast.errors import (
    JobCancelled,
    JobFailed,
    JobNeedsAttention,
    JobNotFound,
    Undecodable,
)
from holdfast.model.codec import decode
from holdfast.model.durations import Duration, seconds
from holdfast.model.job import Job, JobEnding
from holdfast.runtime.definition import Definition

if TYPE_CHECKING:
    from holdfast.app.client import Client

R = TypeVar("R")


class Handle(Generic[R]):
    """One enqueued job. Valid at once; waiting for it makes sense once its enqueue committed.

    `conflict`: a unique job was there already, and this is it. `replaced`: it had not started and
    has taken over what the rule says; see `Unique`. Two handles of one job are equal.
    """

    __slots__ = ("client", "conflict", "definition", "id", "replaced")

    def __init__(
        self,
        id: int,
        client: Client,
        definition: Definition | None = None,
        *,
        conflict: bool = False,
        replaced: bool = False,
    ) -> None:
        self.id = id
        self.client = client
        self.definition = definition
        self.conflict = conflict
        self.replaced = replaced

    def __repr__(self) -> str:
        return f"Handle(id={self.id})"

    def __eq__(self, other: object) -> bool:
        return self.id == other.id if isinstance(other, Handle) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.id)

    async def result(self, timeout: Duration | None = None) -> R:
        """Waits for the job's end and returns its result; woken by a notification.

        Raises `JobFailed` (discarded), `JobCancelled`, `JobNeedsAttention`, `JobNotFound`, and
        `ResultTimeout` after `timeout` (None: waits for ever), which leaves the job alone.
        """
        limit = None if timeout is None else seconds(timeout, field="timeout")
        return self._unpack(await self.client.wait_for(self.id, limit))

    def result_sync(self, timeout: Duration | None = None) -> R:
        """Waits for the job's end and returns its result, blocking; see `result`."""
        limit = None if timeout is None else seconds(timeout, field="timeout")
        return self._unpack(self.client.wait_for_sync(self.id, limit))

    async def job(self) -> Job:
        """Returns the job as it is now."""
        return await self.client.job(self.id)

    def job_sync(self) -> Job:
        """Returns the job as it is now, blocking."""
        return self.client.job_sync(self.id)

    async def cancel(self, reason: str | None = None, *, conn: object = None) -> str:
        """Cancels the job; returns its state after the call: see `Holdfast.cancel`."""
        return (await self.client.cancel([self.id], reason, conn))[self.id]

    def cancel_sync(self, reason: str | None = None, *, conn: object = None) -> str:
        """Cancels the job, blocking; see `cancel`."""
        return self.client.cancel_sync([self.id], reason, conn)[self.id]

    def _unpack(self, ending: JobEnding) -> R:
        what = f"job {self.id}" + (f" ({ending.name})" if ending.name else "")
        detail = f": {ending.detail}" if ending.detail else ""
        error = f": {ending.error_type}: {ending.error_message}" if ending.error_type else ""
        match ending.state:
            case None:
                raise JobNotFound(f"{what} does not exist", job_id=self.id)
            case "discarded":
                text = f"{what} was discarded after {ending.failures} failures{error or detail}"
                raise JobFailed(text, job_id=self.id)
            case "cancelled":
                raise JobCancelled(f"{what} was cancelled{detail}", job_id=self.id)
            case "attention":
                raise JobNeedsAttention(f"{what} stopped for a person{detail}", job_id=self.id)
        if ending.data is None and ending.codec is None:
            return cast(R, None)
        if ending.data is None or ending.codec is None:
            raise Undecodable(
                f"{what} is completed, but its recorded result is gone",
                "Restore its row in the table blob, or run the job again.",
            )
        adapter = None if self.definition is None else self.definition.result_adapter
        return cast(R, decode(ending.data, ending.codec, adapter))
