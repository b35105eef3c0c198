"""Every error of holdfast, in one tree; each has a code, a message and a hint.

HoldfastError
├── UsageError                 wrong use, raised where it is written
│   ├── InvalidOption          HF-101  an option's value is not allowed
│   ├── UnknownName            HF-102  an option, queue or job of that name does not exist
│   ├── InvalidJobFunction     HF-103  a function cannot be a job or a step as it is written
│   ├── InvalidArguments       HF-104  arguments do not fit the job function's signature
│   ├── Unserialisable         HF-105  a value cannot be stored
│   ├── TooLarge               HF-106  a value is larger than its cap
│   └── InvalidSettings        HF-107  settings are wrong; all problems together
├── DatabaseError              HF-200  the database refused a statement
│   ├── DatabaseUnavailable    HF-201  no server answers
│   ├── SchemaMissing          HF-202  the schema is not installed
│   ├── SchemaTooOld           HF-203  the schema needs `holdfast db migrate`
│   └── SchemaTooNew           HF-204  the schema is newer than this holdfast
├── JobError                   what waiting for a job can bring
│   ├── JobNotFound            HF-301
│   ├── JobFailed              HF-302  the job was discarded
│   ├── JobCancelled           HF-303
│   ├── JobNeedsAttention      HF-304  the job stopped for a person
│   └── ResultTimeout          HF-305  no result within the time given
├── DurabilityError            a job that cannot go on as its code is: it stops for a person
│   ├── NonDeterminism         HF-401  a replayed step has other inputs than the recorded one
│   ├── AmbiguousStep          HF-402  two un-keyed steps of one name at once
│   ├── DuplicateStepKey       HF-403  one key used twice
│   └── Undecodable            HF-404  stored data does not fit the code any more
├── StepTimeout                HF-405  a step took longer than its timeout
├── StepFailed                 HF-406  a step's error, remembered from an earlier run
├── JobTimeout                 HF-407  an attempt or a whole job took too long
└── EmbeddedServerError        HF-501  the embedded PostgreSQL could not be run

`Cancel`, `Discard` and `Snooze` are raised by job functions to end an attempt on purpose.
`Interruption` and its children are `BaseException`s, so that `except Exception` cannot eat them.
"""

from __future__ import annotations

from typing import ClassVar


class HoldfastError(Exception):
    """The base of all errors of holdfast: `code`, `message` and `hint` are always set."""

    code: ClassVar[str] = "HF-000"
    default_hint: ClassVar[str] = ""

    def __init__(self, message: str, hint: str | None = None) -> None:
        self.message = message
        self.hint = self.default_hint if hint is None else hint
        super().__init__(message, self.hint)

    def __str__(self) -> str:
        head = f"[{self.code}] {self.message}"
        return f"{head}\n  hint: {self.hint}" if self.hint else head


class UsageError(HoldfastError):
    """Wrong use of the library; raised where it is written, before anything is stored."""

    code = "HF-100"


class InvalidOption(UsageError):
    """An option's value is not allowed."""

    code = "HF-101"


class UnknownName(UsageError):
    """An option, queue or job of that name does not exist; the hint has the nearest one."""

    code = "HF-102"


class InvalidJobFunction(UsageError):
    """A function cannot be a job or a step as it is written."""

    code = "HF-103"


class InvalidArguments(UsageError):
    """Arguments do not fit the signature of the job function; nothing was enqueued."""

    code = "HF-104"


class Unserialisable(UsageError):
    """A value has no stored form, so it was refused instead of being changed silently."""

    code = "HF-105"


class TooLarge(UsageError):
    """A value is larger than its cap; the message names the field, its size and the cap."""

    code = "HF-106"


class InvalidSettings(UsageError):
    """One or more settings are wrong; the message lists all of them."""

    code = "HF-107"


class DatabaseError(HoldfastError):
    """The database refused a statement; `sqlstate` has its code, `__cause__` the original."""

    code = "HF-200"

    def __init__(self, message: str, hint: str | None = None, sqlstate: str | None = None) -> None:
        self.sqlstate = sqlstate
        super().__init__(message, hint)
        self.args = (message, self.hint, sqlstate)


class DatabaseUnavailable(DatabaseError):
    """No server answers; nothing is known to have been written."""

    code = "HF-201"
    default_hint = (
        "Check HOLDFAST_DSN or DATABASE_URL and that the server runs; "
        "`holdfast dev` brings an embedded PostgreSQL."
    )


class SchemaMissing(DatabaseError):
    """The schema is not installed in this database."""

    code = "HF-202"
    default_hint = "Run `holdfast db migrate`."


class SchemaTooOld(DatabaseError):
    """The schema is older than this version of holdfast needs."""

    code = "HF-203"
    default_hint = "Run `holdfast db migrate`; running workers of the old version go on."


class SchemaTooNew(DatabaseError):
    """The schema is newer than this version of holdfast knows."""

    code = "HF-204"
    default_hint = "Upgrade the holdfast package on this machine."


class JobError(HoldfastError):
    """What waiting for a job, or asking for one, can bring."""

    code = "HF-300"

    def __init__(self, message: str, hint: str | None = None, job_id: int | None = None) -> None:
        self.job_id = job_id
        super().__init__(message, hint)
        self.args = (message, self.hint, job_id)


class JobNotFound(JobError):
    """No job has that id: never enqueued, rolled back, or removed by retention."""

    code = "HF-301"
    default_hint = "If it was enqueued inside a transaction, commit before asking for it."


class JobFailed(JobError):
    """The job was discarded: its last error is in the message."""

    code = "HF-302"
    default_hint = (
        "`holdfast jobs show ID` has every attempt; `holdfast jobs retry ID` runs it again."
    )


class JobCancelled(JobError):
    """The job was cancelled before it finished."""

    code = "HF-303"
    default_hint = "`holdfast jobs retry ID` runs it again: finished steps are kept."


class JobNeedsAttention(JobError):
    """The job stopped and waits for a person; the message says why."""

    code = "HF-304"
    default_hint = "Mend the cause, then `holdfast jobs retry ID`: finished steps are kept."


class ResultTimeout(JobError, TimeoutError):
    """The job has not finished within the time given; it goes on all the same."""

    code = "HF-305"


class DurabilityError(HoldfastError):
    """A job cannot go on as its code is: it moves to `attention`, no attempt is charged."""

    code = "HF-400"


class NonDeterminism(DurabilityError):
    """A replayed step got other inputs than the recorded run, with the same code."""

    code = "HF-401"


class AmbiguousStep(DurabilityError):
    """Two un-keyed steps of one name were in flight at once: a replay could swap them."""

    code = "HF-402"


class DuplicateStepKey(DurabilityError):
    """One step key was used twice in one run."""

    code = "HF-403"


class Undecodable(DurabilityError):
    """Stored data does not fit the types of the code any more."""

    code = "HF-404"


class StepTimeout(HoldfastError, TimeoutError):
    """A step took longer than its timeout."""

    code = "HF-405"


class StepFailed(HoldfastError):
    """A step's error, remembered from an earlier run because the job had acted upon it.

    The exception raised is also an instance of the original type when a class of that name is
    loaded in this process; `original_type` has its name.
    """

    code = "HF-406"

    def __init__(self, message: str, hint: str | None = None, original_type: str = "") -> None:
        self.original_type = original_type
        super().__init__(message, hint)
        self.args = (message, self.hint, original_type)


class JobTimeout(HoldfastError, TimeoutError):
    """An attempt took longer than `timeout`, or the whole job longer than `deadline`."""

    code = "HF-407"


class EmbeddedServerError(HoldfastError):
    """The embedded PostgreSQL could not be set up, started or reached."""

    code = "HF-501"


class Cancel(Exception):
    """Raised by a job function: end this job as `cancelled`; no further attempt."""

    def __init__(self, reason: str = "") -> None:
        self.reason = reason
        super().__init__(reason)


class Discard(Exception):
    """Raised by a job function: end this job as `discarded`; no further attempt."""

    def __init__(self, reason: str = "") -> None:
        self.reason = reason
        super().__init__(reason)


class Snooze(Exception):
    """Raised by a job function: run this job again after `seconds`; no attempt is charged."""

    def __init__(self, seconds: float, reason: str = "") -> None:
        self.seconds = float(seconds)
        self.reason = reason
        super().__init__(seconds, reason)


class Interruption(BaseException):
    """The job's code must stop now. A `BaseException`: let it pass."""


class Suspended(Interruption):
    """The job is parked until a time; it resumes here by replay."""


class LeaseLost(Interruption):
    """This process does not own the job any more; whatever it does is not recorded."""


class Interrupted(Interruption):
    """The job's code is stopped from outside: cancelled, timed out, or shut down."""
