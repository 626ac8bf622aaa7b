"""The program that all fakes share."""

from fake_kind.program import build

IMPLEMENTS = {"fake_pipeline"}
__all__ = ["build"]
