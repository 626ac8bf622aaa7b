"""The errors that Dyno shows to its users, each with the exit code of the command that it ends.

    DynoError                       1  if raised itself: a bug in Dyno
      UsageError                    2  an option, override, suite or name cannot be used
      NothingSelectedError          5  the selection is empty, or nothing in it can be compared
      EnvironmentNotReadyError      6  a framework or device named by the user is not available
      StoreError                    7  the store or an input is corrupt, too new, or refused

A launched case that fails is not an error: it is a record with a status, and exit code 3.
Standard library only: the worker imports this module.
"""

from __future__ import annotations

from collections.abc import Iterable

EXIT_OK = 0
EXIT_BUG = 1
EXIT_USAGE = 2
EXIT_CASE_FAILED = 3
EXIT_GATE = 4
EXIT_NOTHING = 5
EXIT_ENVIRONMENT = 6
EXIT_STORE = 7
EXIT_INCONCLUSIVE = 8
EXIT_SIGINT = 130
EXIT_SIGTERM = 143

EXIT_SEVERITY = (
    EXIT_STORE,
    EXIT_BUG,
    EXIT_USAGE,
    EXIT_ENVIRONMENT,
    EXIT_CASE_FAILED,
    EXIT_GATE,
    EXIT_INCONCLUSIVE,
    EXIT_NOTHING,
)


class DynoError(Exception):
    """An error for the user, with an optional hint of what to do; printed without a traceback."""

    exit_code = EXIT_BUG

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint

    def __str__(self) -> str:
        message = super().__str__()
        return f"{message}\nhint: {self.hint}" if self.hint else message


class UsageError(DynoError):
    """An option, override, suite or name cannot be used."""

    exit_code = EXIT_USAGE


class NothingSelectedError(DynoError):
    """The selection is empty, or nothing in it can be compared."""

    exit_code = EXIT_NOTHING


class EnvironmentNotReadyError(DynoError):
    """A framework or device that the user named is not available."""

    exit_code = EXIT_ENVIRONMENT


class StoreError(DynoError):
    """The store or an input is corrupt, written by a newer Dyno, or refused."""

    exit_code = EXIT_STORE


def worst_exit_code(codes: Iterable[int]) -> int:
    """The most severe of several exit codes, by EXIT_SEVERITY."""
    present = set(codes)
    return next((code for code in EXIT_SEVERITY if code in present), EXIT_OK)
