"""What a worker reports of an exception that nothing expected."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from benchmarks.worker import main


@pytest.fixture
def context():
    """A launch's context on the CPU whose framework reports memory errors as XLA does."""
    return SimpleNamespace(
        launch=SimpleNamespace(settings=SimpleNamespace(device="cpu")),
        capabilities=SimpleNamespace(out_of_memory_patterns=("RESOURCE_EXHAUSTED",)),
        failed=lambda status, reason: (status, reason),
    )


def test_the_reason_is_the_error_and_not_a_note_on_it(context):
    error = ValueError("operands could not be\n  broadcast together")
    error.add_note("For simplicity, JAX has removed its internal frames from the traceback.")
    found = main._unexpected(context, error)
    assert found == ("crashed", "ValueError: operands could not be broadcast together")


def test_a_note_does_not_hide_that_memory_ran_out(context):
    error = RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 8 bytes")
    error.add_note("a note")
    status, reason = main._unexpected(context, error)
    assert status == "oom_host"
    assert "allocating 8 bytes" in reason


def test_a_framework_that_exits_is_told_of(context):
    assert main._unexpected(context, SystemExit(3))[1] == "the framework called sys.exit(3)"
