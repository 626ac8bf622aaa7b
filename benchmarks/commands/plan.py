"""`dyno plan`: shows a run's cells, skips with reasons and expected time; runs nothing."""

from __future__ import annotations

import argparse
import sys

from benchmarks.commands import selection
from benchmarks.errors import (
    EXIT_ENVIRONMENT,
    EXIT_NOTHING,
    EXIT_OK,
    worst_exit_code,
)

EXAMPLES = """examples:
  dyno plan                                         the quick suite on this machine
  dyno plan suite=documents protocol=standard device=cuda
  dyno plan framework=all execution=all precision=fp32,bf16 batch_size=8,16
  dyno plan 'batch_size=range(8,65,8)' --json       one JSON document on stdout"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    selection.add_selection_arguments(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON document on stdout")


def run(args: argparse.Namespace) -> int:
    """Show the plan; 5 if no cell can run, 6 if a named framework or device is not available."""
    from benchmarks.documents.encoding import to_text
    from benchmarks.documents.plan import document
    from benchmarks.presentation.plan import describe

    plan = selection.load(args).plan
    if args.json:
        text = to_text(document(plan))
    else:
        text = describe(plan, options=selection.options_of(args))
    sys.stdout.write(text + "\n")
    for reason in plan.missing:
        sys.stderr.write(f"not ready: {reason}\n")
    has_any = any(cell.action != "skip" for cell in plan.cells)
    return worst_exit_code(
        [EXIT_ENVIRONMENT if plan.missing else EXIT_OK, EXIT_OK if has_any else EXIT_NOTHING]
    )
