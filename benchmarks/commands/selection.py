"""The arguments that commands share, and the catalog, store and plan that they select.

Imports nothing heavy, so that `--help` is quick.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.errors import (
    EXIT_ENVIRONMENT,
    EXIT_OK,
    EnvironmentNotReadyError,
    NothingSelectedError,
    UsageError,
)

if TYPE_CHECKING:
    from benchmarks.contract.plan import Plan
    from benchmarks.planning.catalog import Catalog
    from benchmarks.storage.store import Store

DEFAULT_STORE = "results/runs"

REFUSED_FLAGS = {
    ("--config-dir", "-cd"): "it makes Hydra search a folder that can hold anything",
    ("--config-path", "-cp"): "it makes Hydra search a folder that can hold anything",
    ("--config-name", "-cn"): "the configuration is always configs/dyno.yaml",
    ("--multirun", "-m"): "Hydra would run framework after framework, and drift would look like"
    " speed; Dyno expands comma lists itself and interleaves them",
    ("--experimental-rerun",): "it loads a pickle, which can run code",
}
"""Hydra's own flags that Dyno refuses, each with the reason."""


@dataclass(frozen=True)
class Selection:
    """The selection of a command line."""

    catalog: Catalog
    store: Store
    plan: Plan


def add_selection_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the commands that measure or plan."""
    add_override_arguments(parser)
    add_store_argument(parser)
    parser.add_argument(
        "--fresh", action="store_true", help="measure again, whatever the store holds"
    )


def add_override_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of every command that takes overrides."""
    parser.add_argument(
        "overrides",
        nargs="*",
        metavar="KEY=VALUE",
        help="an axis (workload size batch_size framework execution precision device num_devices"
        " seed), a value, a comma list or all; suite= and protocol=; protocol.* and machine.*;"
        " framework=jax,libraries also takes the libraries that compute with jax",
    )
    add_extend_argument(parser)
    for flags, reason in REFUSED_FLAGS.items():
        parser.add_argument(*flags, action=_Refuse, nargs="?", const=reason, help=argparse.SUPPRESS)


def add_output_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare how a run is printed: --json or --notes."""
    either = parser.add_mutually_exclusive_group()
    either.add_argument("--json", action="store_true", help="print one JSON document on stdout")
    either.add_argument(
        "--notes", action="store_true", help="print everything that is known of the numbers"
    )


def add_store_argument(parser: argparse.ArgumentParser) -> None:
    """Declare --store."""
    parser.add_argument(
        "--store", metavar="DIR", default=DEFAULT_STORE, help="default: %(default)s"
    )


def add_extend_argument(parser: argparse.ArgumentParser) -> None:
    """Declare --extend."""
    parser.add_argument(
        "--extend",
        metavar="DIR",
        action="append",
        default=[],
        type=Path,
        help="a folder with further frameworks/, workloads/, metrics/; may be given more than once",
    )


def load(args: argparse.Namespace) -> Selection:
    """The selection of parsed arguments.

    Raises UsageError if an override, a suite or a name cannot be used, and StoreError if the store
    is damaged.
    """
    from benchmarks.planning.catalog import discover
    from benchmarks.planning.planner import PlanRequest, make_plan
    from benchmarks.storage.store import Store

    catalog, store = discover(args.extend), Store(Path(args.store))
    request = PlanRequest(tuple(args.overrides), fresh=args.fresh)
    plan = make_plan(request, catalog=catalog, store=store)
    if any(cell.action == "have" for cell in plan.cells):
        plan = _reopened(plan, catalog, store)
    return Selection(catalog, store, plan)


def refuse_only_skips(plan: Plan) -> None:
    """Raise EnvironmentNotReadyError or NothingSelectedError if no cell of the plan can run."""
    if any(cell.action != "skip" for cell in plan.cells):
        return
    if plan.missing:
        raise EnvironmentNotReadyError("; ".join(plan.missing), "see: dyno doctor")
    reasons = sorted({str(cell.reason) for cell in plan.cells})
    raise NothingSelectedError(
        f"none of the {len(plan.cells)} cells can run: {'; '.join(reasons)}", "see: dyno plan"
    )


def exit_code_of_missing(plan: Plan) -> int:
    """6 if something that the user named is not available here, which is said on stderr; else 0."""
    for reason in plan.missing:
        sys.stderr.write(f"not ready: {reason}\n")
    return EXIT_ENVIRONMENT if plan.missing else EXIT_OK


def _reopened(plan: Plan, catalog: Catalog, store: Store) -> Plan:
    """The plan, in which cells with results that are not settled are measured further."""
    from benchmarks.analysis.summary import summarise
    from benchmarks.running.sharpening import reopened

    records = store.records(plan.run_id if plan.fresh else None)
    return reopened(plan, summarise(plan, records, catalog.specs()), records)


def options_of(args: argparse.Namespace) -> list[str]:
    """The selecting options of a command line, as they would be typed again."""
    store = [] if args.store == DEFAULT_STORE else ["--store", args.store]
    extend = [word for folder in args.extend for word in ("--extend", str(folder))]
    return [*store, *extend, *(["--fresh"] if args.fresh else [])]


class _Refuse(argparse.Action):
    """Ends the command with the reason that is the option's constant."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> None:
        raise UsageError(f"{option_string}: refused, because {self.const}")
