"""What `@app.job` makes of a function: its options, and its arguments as storable values.

Arguments are kept as one JSON object keyed by parameter name, so that any language can enqueue.
pydantic validates them against the signature twice: when enqueued and when run.
"""

from __future__ import annotations

import hashlib
import inspect
import typing
from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, Literal, NotRequired, Required

from pydantic import (
    BeforeValidator,
    ConfigDict,
    JsonValue,
    PlainSerializer,
    PydanticUserError,
    TypeAdapter,
    ValidationError,
    ValidationInfo,
)
from pydantic_core import PydanticSerializationError, to_json
from typing_extensions import TypedDict  # pydantic wants this one before Python 3.12

from holdfast.errors import (
    HoldfastError,
    InvalidArguments,
    InvalidJobFunction,
    Undecodable,
    Unserialisable,
)
from holdfast.model.backoff import Backoff
from holdfast.model.codec import adapter_for
from holdfast.model.jsonb import (
    check_json,
    is_doubtful,
    may_have_odd_floats,
    odd_floats,
    too_large,
)
from holdfast.model.text import error_line, shown, storable
from holdfast.model.unique import Unique
from holdfast.runtime.context import BlockingContext, Context

MAX_ARGS_BYTES = 16 * 1024 * 1024

Drift = Literal["reuse", "rerun", "stop"]

_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
_ARGS_CONFIG = ConfigDict(extra="forbid")


def _from_base64(value: Any, info: ValidationInfo) -> Any:
    is_text = info.mode == "json" and isinstance(value, str)
    return b64decode(value, validate=True) if is_text else value


# By the type, not by the configuration: that of a TypedDict does not reach its serialiser.
_Bytes = Annotated[
    bytes,
    BeforeValidator(_from_base64),
    PlainSerializer(lambda data: b64encode(data).decode(), return_type=str, when_used="json"),
]


@dataclass(frozen=True, kw_only=True)
class Definition:
    """A job function with its options; knows how to store and restore its arguments."""

    name: str
    fn: Callable[..., Any]
    queue: str
    priority: int
    max_attempts: int
    max_crashes: int
    timeout_s: float | None
    deadline_s: float | None
    backoff: Backoff | None
    drift: Drift
    tags: tuple[str, ...]
    version: str | None
    unique: Unique | None = None

    @cached_property
    def is_async(self) -> bool:
        """True for a coroutine function; others run in threads."""
        return inspect.iscoroutinefunction(inspect.unwrap(self.fn))

    @cached_property
    def code_version(self) -> str:
        """The version given, else a digest of the function's source."""
        if self.version is not None:
            return self.version
        try:
            text = inspect.getsource(inspect.unwrap(self.fn))
        except (OSError, TypeError):
            text = repr(getattr(self.fn, "__code__", self.fn.__qualname__))
        return hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=6).hexdigest()

    def check(self) -> None:
        """Raises when the function cannot be a job; called where it is decorated."""
        if inspect.isasyncgenfunction(self.fn) or inspect.isgeneratorfunction(self.fn):
            raise InvalidJobFunction(
                f"job {self.name!r} is a generator function",
                "A job returns its result; report progress with ctx.progress() or ctx.track().",
            )
        first = next(iter(self._parameters), None)
        if first is not None and self._hints.get(first) is self._foreign_context:
            wrong, right = self._foreign_context.__name__, self._own_context.__name__
            kind = "async" if self.is_async else "plain"
            raise InvalidJobFunction(
                f"job {self.name!r} is an {kind} function, its first parameter is a {wrong}",
                f"Annotate it {first}: {right}.",
            )
        _ = self._adapter, self.result_adapter
        if self.unique is not None:
            self.check_unique(self.unique)

    def check_unique(self, unique: Unique) -> None:
        """Raises when a rule names arguments that the function does not have."""
        names = [parameter.name for parameter in self._own_parameters]
        unique.check_parameters(names, job=self.name)

    @property
    def _own_context(self) -> type:
        return Context if self.is_async else BlockingContext

    @property
    def _foreign_context(self) -> type:
        return BlockingContext if self.is_async else Context

    @cached_property
    def _parameters(self) -> Mapping[str, inspect.Parameter]:
        return inspect.signature(self.fn).parameters

    @cached_property
    def _hints(self) -> dict[str, Any]:
        return typing.get_type_hints(self.fn, include_extras=True)

    @cached_property
    def takes_context(self) -> bool:
        """True when the first parameter is annotated with the context's class."""
        first = next(iter(self._parameters), None)
        return first is not None and self._hints.get(first) is self._own_context

    @cached_property
    def result_adapter(self) -> TypeAdapter[Any] | None:
        """The return annotation as a validator; None when it says nothing."""
        return adapter_for(self._hints.get("return", inspect.Parameter.empty))

    @cached_property
    def _own_parameters(self) -> list[inspect.Parameter]:
        return list(self._parameters.values())[1 if self.takes_context else 0 :]

    @cached_property
    def _simple_names(self) -> list[str] | None:
        """Parameter names in order if arguments can be bound by zipping; None for *args etc."""
        if all(p.kind is p.POSITIONAL_OR_KEYWORD for p in self._own_parameters):
            return [p.name for p in self._own_parameters]
        return None

    @cached_property
    def _adapter(self) -> TypeAdapter[dict[str, Any]]:
        fields = {p.name: self._field(p) for p in self._own_parameters}
        build: Any = TypedDict  # the functional form, with fields that exist only now
        shape = build(self.name, fields)
        shape.__pydantic_config__ = _ARGS_CONFIG
        try:
            return TypeAdapter(shape)
        except PydanticUserError as error:
            raise InvalidJobFunction(
                f"job {self.name!r} has a parameter whose type cannot be stored: {error.message}",
                "Use types pydantic knows: plain values, dataclasses, models, enums, datetimes …",
            ) from error

    @cached_property
    def _defaults(self) -> dict[str, Any]:
        """The defaults that fit their annotation; others (`n: int = None`) stay unwritten."""
        found: dict[str, Any] = {}
        for parameter in self._own_parameters:
            if parameter.default is not parameter.empty:
                build: Any = TypedDict
                shape = build("default", {parameter.name: self._field(parameter)})
                value = {parameter.name: parameter.default}
                try:
                    TypeAdapter(shape).dump_json(TypeAdapter(shape).validate_python(value))
                except (ValueError, PydanticSerializationError):
                    continue
                found |= value
        return found

    def _field(self, parameter: inspect.Parameter) -> Any:
        annotation = self._hints.get(parameter.name, JsonValue)
        if annotation in (Any, object):
            annotation = JsonValue
        if annotation is bytes:
            annotation = _Bytes
        if parameter.kind is parameter.VAR_POSITIONAL:
            return NotRequired[list[annotation]]  # type: ignore[valid-type]
        if parameter.kind is parameter.VAR_KEYWORD:
            return NotRequired[dict[str, annotation]]  # type: ignore[valid-type]
        wrapper: Any = Required if parameter.default is parameter.empty else NotRequired
        return wrapper[annotation]

    def encode(
        self, args: Sequence[Any], kwargs: Mapping[str, Any], *, with_defaults: bool = False
    ) -> str:
        """Returns the arguments as JSON, validated against the signature.

        `with_defaults` writes down those that were left to their default, too: for jobs that are
        compared by their arguments, a default is the same as its value.
        """
        given = self._bind(args, kwargs)
        if with_defaults:
            given = {**self._defaults, **given}
        try:
            valid = self._adapter.validate_python(given)
            data = self._adapter.dump_json(valid)
            text = data.decode()  # looking into bytes is much slower
            if "null" in text and may_have_odd_floats(valid) and odd_floats(valid):
                text = self._with_odd_floats(valid)
        except ValidationError as error:
            raise self._misfit(error) from None
        except HoldfastError:
            raise
        except Exception as error:  # also of validators and serialisers of the user's own
            raise Unserialisable(
                f"job {self.name!r}: arguments cannot be stored: {error_line(error)}",
                "Pass plain data, or annotate the parameter with the type it has.",
            ) from error
        if len(data) > MAX_ARGS_BYTES:
            field = f"job {self.name!r}: arguments"
            raise too_large(data, field=field, cap=MAX_ARGS_BYTES)
        if is_doubtful(text):
            check_json(text, field=f"job {self.name!r}: arguments", source=valid)
        return text

    def _with_odd_floats(self, valid: dict[str, Any]) -> str:
        """Returns the JSON with NaN and infinities as texts; raises if they do not come back."""
        plain = self._adapter.dump_python(valid, mode="json")
        text = to_json(plain, inf_nan_mode="strings").decode()
        if odd_floats(self._adapter.validate_json(text)) != odd_floats(valid):
            raise Unserialisable(
                f"job {self.name!r}: NaN or an infinity among the arguments would be changed",
                "JSON has no form for them: annotate what holds them as float, or pass None.",
            )
        return text

    def decode(self, text: str) -> tuple[list[Any], dict[str, Any]]:
        """Returns positional and keyword arguments for the call, from what was stored."""
        try:
            values = self._adapter.validate_json(text)
        except ValidationError as error:
            raise Undecodable(
                f"job {self.name!r}: its stored arguments do not fit the function any more: "
                f"{_describe(error)}",
                "Make the function accept them again (a default helps), then retry the job.",
            ) from None
        if self._simple_names is not None:
            return [], values
        return self._spread(values)

    def _spread(self, values: dict[str, Any]) -> tuple[list[Any], dict[str, Any]]:
        args: list[Any] = []
        kwargs: dict[str, Any] = {}
        for parameter in self._own_parameters:
            if parameter.name not in values:
                continue
            value = values[parameter.name]
            if parameter.kind is parameter.VAR_POSITIONAL:
                args += value
            elif parameter.kind is parameter.VAR_KEYWORD:
                kwargs |= value
            elif parameter.kind in _POSITIONAL and not kwargs:
                args.append(value)
            else:
                kwargs[parameter.name] = value
        return args, kwargs

    def _bind(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        names = self._simple_names
        if names is not None and len(args) <= len(names):
            given = dict(zip(names, args, strict=False))
            if not given.keys() & kwargs.keys():
                return {**given, **kwargs}
        signature = inspect.Signature(self._own_parameters)
        try:
            return dict(signature.bind(*args, **kwargs).arguments)
        except TypeError as error:
            raise InvalidArguments(f"job {self.name!r}: {error}", self._usage) from None

    @property
    def _usage(self) -> str:
        return f"Its signature is {self.name}{inspect.Signature(self._own_parameters)}."

    def _misfit(self, error: ValidationError) -> InvalidArguments:
        return InvalidArguments(f"job {self.name!r}: {_describe(error)}", self._usage)


def _describe(error: ValidationError) -> str:
    problems = []
    for item in error.errors(include_url=False, include_context=False)[:5]:
        where = shown(".".join(map(str, item["loc"])), limit=120)
        got = "" if item["type"] == "missing" else f" (got {shown(item['input'], limit=120)})"
        problems.append(f"argument {where}: {storable(item['msg'], limit=400)}{got}")
    return "; ".join(problems)
