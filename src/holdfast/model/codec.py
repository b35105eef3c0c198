"""The stored form of results: bytes, and a number that says how to read them.

| number | what                                                  | read with              |
|--------|-------------------------------------------------------|------------------------|
| 1      | tagged JSON of plain types (`tagged`)                 | nothing: says all itself |
| 2, 3   | JSON by the function's return annotation (`typed`)    | the annotation         |
| +16    | the same, compressed with zlib                        |                        |

A number's meaning never changes; a new form gets a new number. Reading never unpickles, imports,
or builds a class that the data names: the only classes are the plain types and those of the
annotation.
"""

from __future__ import annotations

import inspect
import zlib
from dataclasses import dataclass
from typing import Any, Final

from pydantic import ConfigDict, PydanticUserError, TypeAdapter

from holdfast.errors import HoldfastError, TooLarge, Undecodable, Unserialisable
from holdfast.model import tagged, typed
from holdfast.model.tagged import NotPlain, where
from holdfast.model.text import error_line, type_name

MAX_RESULT_BYTES: Final = 64 * 1024 * 1024
SPILL_BYTES: Final = 256 * 1024
TAGGED: Final = 1
COMPRESSED: Final = 16

_COMPRESS_ABOVE: Final = 4_096
# What is larger stays as it is and is refused by `check_size`: so reading can be bounded too.
_MAX_PLAIN_BYTES: Final = 4 * MAX_RESULT_BYTES
_MIB: Final = 1024 * 1024
_CONFIG: Final = ConfigDict(
    ser_json_inf_nan="constants", ser_json_bytes="base64", val_json_bytes="base64"
)
_UNDECODABLE_HINT: Final = (
    "The code changed since this was stored. Bring the return annotation back to a type that "
    "accepts it, then retry the job."
)


@dataclass(frozen=True, slots=True)
class Encoded:
    """A value in its stored form."""

    data: bytes
    codec: int


def encode(value: object, adapter: TypeAdapter[object] | None) -> Encoded:
    """Return the stored form of a value, of which `decode` is known to make the same again.

    A plain tree needs no adapter and ignores one. Raises `Unserialisable`, naming the type and
    where it is, for anything that would be lost or changed; `TooLarge` only for absurd sizes:
    call `check_size` before storing.

    >>> encode({"pages": 3}, None)
    Encoded(data=b'{"pages":3}', codec=1)
    >>> encode({"items": [1, 2j]}, None)
    Traceback (most recent call last):
        ...
    holdfast.errors.Unserialisable: [HF-105] a value cannot be stored: complex at $.items[1]
      hint: Annotate the function's return type ...
    """
    try:
        data, codec = _dump(value, adapter)
    except HoldfastError:
        raise
    except Exception as error:
        kind = type_name(value)
        message = f"a value cannot be stored: {kind} at $: {error_line(error)}"
        raise Unserialisable(message, typed.HINT) from error
    return _packed(data, codec)


def decode(data: bytes, codec: int, adapter: TypeAdapter[object] | None) -> object:
    """Return the value that was encoded; `Undecodable` when data or annotation do not fit.

    >>> decode(b'{"$hf":"tuple","v":[1,2]}', 1, None)
    (1, 2)
    """
    try:
        if codec & COMPRESSED:
            data, codec = _decompressed(data), codec & ~COMPRESSED
        if codec == TAGGED:
            return tagged.load(data)
        if codec not in (typed.JSON, typed.PYTHON):
            raise ValueError("unknown codec; a newer holdfast may have written it")
        if adapter is None:
            raise ValueError("the function has no return annotation to read it with any more")
        return typed.load(data, codec, adapter)
    except Exception as error:
        message = (
            f"stored data (codec {codec}, {len(data)} bytes) cannot be read: {error_line(error)}"
        )
        raise Undecodable(message, _UNDECODABLE_HINT) from error


def adapter_for(annotation: object) -> TypeAdapter[object] | None:
    """Return the adapter of a return annotation; None when it says nothing pydantic can use.

    Resolve annotations that are strings first (`typing.get_type_hints`). Building one takes up to
    milliseconds: build it once for each function.

    >>> encode({1.5: float("nan")}, adapter_for(dict[float, float])).codec
    1
    >>> adapter_for(object) is None
    True
    """
    form: Any = annotation
    if form is inspect.Parameter.empty or form is Any or form is object:
        return None
    try:
        try:
            return TypeAdapter(form, config=_CONFIG)
        except PydanticUserError:
            return TypeAdapter(form)  # a model brings its own configuration
    except Exception:
        # A class pydantic does not know: plain values still work, others are refused by `encode`.
        return None


def check_size(encoded: Encoded, *, field: str) -> None:
    """Guarantee that a stored form is within the cap; `TooLarge` names field, size and cap.

    >>> check_size(Encoded(bytes(65 * 1024 * 1024), 1), field="result of step 'fetch'")
    Traceback (most recent call last):
        ...
    holdfast.errors.TooLarge: [HF-106] result of step 'fetch' is 65.0 MiB; the most is 64 MiB
      hint: Store it elsewhere ...
    """
    size = len(encoded.data)
    if size > MAX_RESULT_BYTES:
        # Rounded up, so that the size never reads like the cap.
        size_mib = -(-size * 10 // _MIB) / 10
        raise TooLarge(
            f"{field} is {size_mib:.1f} MiB; the most is {MAX_RESULT_BYTES // _MIB} MiB",
            "Store it elsewhere (a file, a bucket, a table) and return a reference to it.",
        )


def _dump(value: object, adapter: TypeAdapter[object] | None) -> tuple[bytes, int]:
    try:
        return tagged.dump(value), TAGGED
    except NotPlain as found:
        if adapter is None:
            message = f"a value cannot be stored: {found.kind_name} at {where(found.path)}"
            raise Unserialisable(message, typed.HINT) from None
        return typed.dump(value, adapter, found)


def _packed(data: bytes, codec: int) -> Encoded:
    if _COMPRESS_ABOVE < len(data) <= _MAX_PLAIN_BYTES:
        packed = zlib.compress(data, 1)
        if len(packed) <= len(data) * 9 // 10:
            return Encoded(packed, codec | COMPRESSED)
    return Encoded(data, codec)


def _decompressed(data: bytes) -> bytes:
    unpacker = zlib.decompressobj()
    plain = unpacker.decompress(data, _MAX_PLAIN_BYTES)
    if not unpacker.eof or unpacker.unused_data:
        raise ValueError("the compressed data is cut short, too long, or followed by something")
    return plain
