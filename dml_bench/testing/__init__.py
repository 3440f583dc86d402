"""For the authors of losses: conformance cards, and the rules that every loss obeys."""

from dml_bench.testing.card import Card, verify, verify_all
from dml_bench.testing.contract import check_loss

__all__ = ["Card", "check_loss", "verify", "verify_all"]
