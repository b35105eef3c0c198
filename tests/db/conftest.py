"""The fixture of the storage tests: a desk at which one test plays every worker by hand."""

from collections.abc import Iterator

import pytest

from fixtures.database import Installation
from fixtures.desk import Desk


@pytest.fixture
def desk(db: Installation) -> Iterator[Desk]:
    """The real statements on this test's schema; its connections are closed at the end."""
    desk = Desk(db)
    yield desk
    desk.close()
