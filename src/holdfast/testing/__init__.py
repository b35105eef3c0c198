"""Tools to test and to demonstrate jobs: a simulated LLM provider with a ledger of its calls."""

from holdfast.testing.extract import summarise
from holdfast.testing.ledger import Ledger, LedgerCall
from holdfast.testing.server import SimulatedProvider

__all__ = ["Ledger", "LedgerCall", "SimulatedProvider", "summarise"]
