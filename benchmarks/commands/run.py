"""`dyno run`: measures what is missing or undecided, then shows the run."""

from __future__ import annotations

import argparse
import re
from dataclasses import replace

from benchmarks.commands import selection
from benchmarks.errors import EXIT_OK, worst_exit_code

EXAMPLES = """examples:
  dyno run                                        the quick suite on this machine, in minutes
  dyno run framework=pytorch,jax precision=fp32,bf16 batch_size=8,16
  dyno run suite=documents protocol=standard device=cuda
  dyno run --max-time 3m                          spend three minutes where they decide most
The same command again continues the run: what is settled is not measured again, comparisons without
a verdict or with wide intervals get further launches."""

UNIT_SECONDS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    selection.add_selection_arguments(parser)
    selection.add_output_arguments(parser)
    parser.add_argument("--max-time", metavar="TIME", type=_seconds, help="e.g. 90s, 30m or 2h")


def run(args: argparse.Namespace) -> int:
    """Measure the missing launches, show the run, and return the exit code."""
    from benchmarks.commands.show import Output, metrics_of, show_plan

    chosen = selection.load(args)
    selection.refuse_only_skips(chosen.plan)
    metrics_of(chosen.plan, chosen.catalog)  # a faulty one is refused before anything is measured
    signal_code = EXIT_OK
    if any(cell.action == "run" for cell in chosen.plan.cells) or chosen.plan.cohorts:
        signal_code = _measure(chosen, args.max_time)
    else:
        chosen.store.create_run(chosen.plan)
    output = Output(args.json, args.notes, logs=str(chosen.store.folder))
    shown = show_plan(chosen.plan, chosen.store, chosen.catalog, output=output)
    return signal_code or worst_exit_code([shown, selection.exit_code_of_missing(chosen.plan)])


def _measure(chosen: selection.Selection, max_time_s: float | None) -> int:
    """Store the run and measure its cohorts; 130 or 143 if a signal ended them early.

    A run is stored only once it holds the machine's lock: if another run measures, the last run in
    the store remains the last.
    """
    from rich.console import Console

    from benchmarks.host.lock import machine_lock
    from benchmarks.presentation.progress import for_console
    from benchmarks.presentation.sharpening import bought
    from benchmarks.running.cohort import Run
    from benchmarks.running.listeners import FanOut
    from benchmarks.running.preparation import folders_of, lock_folder
    from benchmarks.running.runner import run as run_cohorts
    from benchmarks.running.sharpening import Sharpening, in_order_of_worth
    from benchmarks.running.stopping import Stopping

    plan = chosen.plan
    if max_time_s is not None and (plan.estimate_s or 0.0) > max_time_s:
        plan = replace(plan, cohorts=in_order_of_worth(plan))
    stopping = Stopping(max_time_s)
    progress = FanOut([for_console(Console(stderr=True))])
    with machine_lock(lock_folder(plan.machine_config)):
        chosen.store.create_run(plan)
        folders = folders_of(plan, chosen.store)
        sharpening = Sharpening(
            plan,
            chosen.catalog,
            chosen.store,
            note=progress.note,
            max_time_s=max_time_s or plan.protocol.max_time_s,
            is_limited=max_time_s is not None,
        )
        before = sharpening.summary()
        run_cohorts(
            Run(
                *(plan, chosen.catalog, chosen.store, folders, progress, stopping),
                further=sharpening.further,
                fits=sharpening.fits,
                left_s=lambda: sharpening.left_s,
            )
        )
        for line in bought(before, sharpening.summary()):
            progress.note(line)
    return stopping.exit_code


def _seconds(text: str) -> float:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smh]?)", text)
    if not match or float(match[1]) == 0:
        raise argparse.ArgumentTypeError(f"received {text!r}, expected e.g. 90s, 30m or 2h")
    return float(match[1]) * UNIT_SECONDS[match[2]]
