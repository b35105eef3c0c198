"""holdfast: durable jobs for AI agents, on PostgreSQL.

from holdfast import Context, Holdfast

app = Holdfast()

@app.job(queue="agents")
async def research(ctx: Context, topic: str) -> str: ...
"""

from holdfast.app.client import History
from holdfast.app.diagnoses import Finding
from holdfast.app.explain import Explanation
from holdfast.app.function import JobFunction, Request
from holdfast.app.handle import Handle
from holdfast.app.holdfast import Holdfast
from holdfast.app.settings import Settings
from holdfast.errors import (
    AmbiguousStep,
    Cancel,
    DatabaseError,
    DatabaseUnavailable,
    Discard,
    DuplicateStepKey,
    DurabilityError,
    EmbeddedServerError,
    HoldfastError,
    Interrupted,
    Interruption,
    InvalidArguments,
    InvalidJobFunction,
    InvalidOption,
    InvalidSettings,
    JobCancelled,
    JobError,
    JobFailed,
    JobNeedsAttention,
    JobNotFound,
    JobTimeout,
    LeaseLost,
    NonDeterminism,
    ResultTimeout,
    SchemaMissing,
    SchemaTooNew,
    SchemaTooOld,
    Snooze,
    StepFailed,
    StepTimeout,
    Suspended,
    TooLarge,
    Undecodable,
    UnknownName,
    Unserialisable,
    UsageError,
)
from holdfast.model.backoff import Backoff, Retry
from holdfast.model.durations import Duration
from holdfast.model.job import Execution, Job, Step, WorkerInfo
from holdfast.model.queues import QueueInfo
from holdfast.model.unique import Unique
from holdfast.runtime.context import BlockingContext, Context, current_context
from holdfast.runtime.stepping import StepInfo
from holdfast.runtime.steps import StepFunction, current_step, step
from holdfast.storage.queues import Pruned, RetentionRule
from holdfast.storage.server import EmbeddedPostgres

__version__ = "0.1.0"

__all__ = [
    "AmbiguousStep",
    "Backoff",
    "BlockingContext",
    "Cancel",
    "Context",
    "DatabaseError",
    "DatabaseUnavailable",
    "Discard",
    "DuplicateStepKey",
    "DurabilityError",
    "Duration",
    "EmbeddedPostgres",
    "EmbeddedServerError",
    "Execution",
    "Explanation",
    "Finding",
    "Handle",
    "History",
    "Holdfast",
    "HoldfastError",
    "Interrupted",
    "Interruption",
    "InvalidArguments",
    "InvalidJobFunction",
    "InvalidOption",
    "InvalidSettings",
    "Job",
    "JobCancelled",
    "JobError",
    "JobFailed",
    "JobFunction",
    "JobNeedsAttention",
    "JobNotFound",
    "JobTimeout",
    "LeaseLost",
    "NonDeterminism",
    "Pruned",
    "QueueInfo",
    "Request",
    "ResultTimeout",
    "RetentionRule",
    "Retry",
    "SchemaMissing",
    "SchemaTooNew",
    "SchemaTooOld",
    "Settings",
    "Snooze",
    "Step",
    "StepFailed",
    "StepFunction",
    "StepInfo",
    "StepTimeout",
    "Suspended",
    "TooLarge",
    "Undecodable",
    "Unique",
    "UnknownName",
    "Unserialisable",
    "UsageError",
    "WorkerInfo",
    "current_context",
    "current_step",
    "step",
]
