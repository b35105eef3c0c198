"""What a driver's adapter is: it knows its connections and runs one statement on them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

Kind = Literal["async", "blocking"]
Params = Mapping[str, object]


class Adapter:
    """Runs one statement on connections of one driver; never imports the driver to find out.

    The statement is written for psycopg, its parameters are texts. An adapter neither begins nor
    ends a transaction, and lets the driver's errors out as they are.
    """

    def kind(self, conn: object) -> Kind | None:
        """Returns how a connection is used, or None when it is not one of this driver."""
        raise NotImplementedError

    async def fetch(self, conn: Any, text: str, params: Params) -> Sequence[tuple[Any, ...]]:
        """Returns the rows of a statement, from an async connection."""
        raise NotImplementedError

    def fetch_sync(self, conn: Any, text: str, params: Params) -> Sequence[tuple[Any, ...]]:
        """Returns the rows of a statement, from a blocking connection."""
        raise NotImplementedError


def class_names(conn: object, package: str) -> set[str]:
    """Returns the names of an object's classes that come from a package, its bases among them."""
    bases = type(conn).__mro__
    return {base.__name__ for base in bases if base.__module__.partition(".")[0] == package}
