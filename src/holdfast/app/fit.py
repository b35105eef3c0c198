"""Arguments written as text: each read as JSON if the job function takes it so, else as it is."""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from holdfast.app.function import JobFunction, Request
from holdfast.errors import InvalidArguments

_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


def new_from_text(
    function: JobFunction[..., Any], values: Mapping[str, Any], texts: Mapping[str, str]
) -> Request[Any]:
    """Returns a validated job of a function from values and from texts, by parameter name.

    A text that is JSON counts as its value; a parameter that does not accept that gets the text:
    `123` is a number for `int` and a string for `str`. Raises `InvalidArguments`.
    """
    read = {name: read_json(text) for name, text in texts.items()}
    wrong = _misfits(function, {**values, **read}) & texts.keys()
    if wrong:
        raw = {**read, **{name: texts[name] for name in wrong}}
        # What fits in neither form stays JSON, for the better message.
        still = _misfits(function, {**values, **raw})
        read |= {name: texts[name] for name in wrong - still}
    return _new(function, {**values, **read})


def read_json(text: str) -> Any:
    """Returns the value of a JSON text, or the text itself when it is none.

    >>> read_json("[1, 2]"), read_json("2030-01-31"), read_json("NaN")
    ([1, 2], '2030-01-31', 'NaN')
    """
    try:
        return json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return text


def _refuse(constant: str) -> Any:
    raise ValueError(constant)


def _misfits(function: JobFunction[..., Any], given: Mapping[str, Any]) -> set[str]:
    """Returns the names of the arguments that the validation complains about."""
    try:
        _new(function, given)
    except InvalidArguments as error:
        found = error.__context__
        if not isinstance(found, ValidationError):
            return set()
        # Two levels: an argument of **kwargs is below the parameter's name.
        return {str(part) for item in found.errors() for part in item["loc"][:2]}
    return set()


def _new(function: JobFunction[..., Any], given: Mapping[str, Any]) -> Request[Any]:
    """Validates arguments by name; positional-only ones and *args are passed by position."""
    rest = dict(given)
    args: list[Any] = []
    parameters = list(inspect.signature(function.fn).parameters.values())
    own = parameters[1:] if function.definition.takes_context else parameters
    if any(p.kind in (p.POSITIONAL_ONLY, p.VAR_POSITIONAL) for p in own):
        for parameter in own:
            if parameter.name not in rest:
                break
            if parameter.kind in _POSITIONAL:
                args.append(rest.pop(parameter.name))
            elif parameter.kind is parameter.VAR_POSITIONAL and _is_list(rest[parameter.name]):
                args += rest.pop(parameter.name)
    return function.new(*args, **rest)


def _is_list(value: object) -> bool:
    return isinstance(value, list)
