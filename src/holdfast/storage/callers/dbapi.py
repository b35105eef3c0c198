"""Any other blocking driver: a cursor or a connection as PEP 249 describes them."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Mapping
from contextlib import closing, nullcontext
from typing import Any

from holdfast.storage.callers.adapter import Adapter, Kind, Params
from holdfast.storage.callers.render import render
from holdfast.storage.query import Row


class DbapiAdapter(Adapter):
    """Runs on another cursor of the same connection, where the caller's cursor tells its own."""

    def kind(self, conn: object) -> Kind | None:
        """Knows an object by its methods: `execute` and `fetchall`, or `cursor` and `commit`."""
        for names in (("execute", "fetchall"), ("cursor", "commit")):
            methods = [getattr(conn, name, None) for name in names]
            if all(callable(m) and not inspect.iscoroutinefunction(m) for m in methods):
                return "blocking"
        return None

    def fetch_sync(self, conn: Any, text: str, params: Params) -> list[Row]:
        """Runs in the paramstyle that the driver's module declares."""
        owner = conn if hasattr(conn, "cursor") else getattr(conn, "connection", None)
        with nullcontext(conn) if owner is None else closing(owner.cursor()) as cursor:
            cursor.execute(*render(text, params, _style(cursor)))
            return [tuple(r.values() if isinstance(r, Mapping) else r) for r in cursor.fetchall()]


def _style(cursor: object) -> str:
    packages = [base.__module__.partition(".")[0] for base in type(cursor).__mro__]
    styles = [getattr(sys.modules.get(name), "paramstyle", None) for name in packages]
    return next((style for style in styles if style is not None), "pyformat")
