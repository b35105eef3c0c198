"""Fixtures live in `tests/fixtures`; this file only names them."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from fixtures.database import *  # noqa: F403
from fixtures.running import *  # noqa: F403
from fixtures.wire import *  # noqa: F403
