"""The generator of the reference is a tool, not part of the package: its folder is added here."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools"))
