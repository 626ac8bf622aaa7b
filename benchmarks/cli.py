"""`dyno`: finds the command's module, runs it, and turns errors into messages and exit codes.

Imports nothing heavy: a command's module is imported when the command is called.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import NoReturn, Protocol, cast

import benchmarks
from benchmarks.errors import EXIT_BUG, EXIT_SIGINT, EXIT_USAGE, DynoError

COMMANDS = {
    "doctor": "show what can be measured on this machine, what would disturb it, and what to do",
    "ls": "list workloads, frameworks, suites, runs or claims",
    "plan": "show the cells, the skips with reasons and the expected time; run nothing",
    "prepare": "do ahead what needs no quiet machine: references, exports, compilation",
    "parity": "prove equal work, cell by cell, against the float64 oracle",
    "run": "measure; the same command again continues an unfinished run",
    "show": "show the table of a run, by default of the last one",
}
"""Each command is the module of that name in benchmarks.commands."""

EXIT_SIGPIPE = 141
"""The exit code with which a shell reports a process that died of a closed pipe."""

EXAMPLES = """examples:
  dyno doctor
  dyno plan framework=pytorch,jax precision=fp32,bf16
  dyno run
  dyno COMMAND --help"""


class Command(Protocol):
    """The interface of a command's module."""

    add_arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], int]


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code; raises nothing."""
    try:
        code = _dispatch(list(sys.argv[1:] if argv is None else argv))
        sys.stdout.flush()
        return code
    except DynoError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    except KeyboardInterrupt:
        return EXIT_SIGINT
    except BrokenPipeError:
        _close_stdout()
        return EXIT_SIGPIPE
    except SystemExit as stop:  # argparse exits after --help and on bad usage
        return stop.code if isinstance(stop.code, int) else EXIT_BUG
    except Exception:  # noqa: BLE001 - the last handler: any other error is a bug of Dyno
        traceback.print_exc()
        sys.stderr.write("this is a bug in Dyno; please report it with the lines above\n")
        return EXIT_BUG


def _dispatch(argv: list[str]) -> int:
    if not argv:
        _parser().print_help(sys.stderr)
        return EXIT_USAGE
    if argv[0].startswith("-"):
        _parser().parse_args(argv)
        return EXIT_USAGE
    name = argv[0]
    if name not in COMMANDS:
        _refuse(name)
    command, parser = load_command(name)
    return command.run(parser.parse_intermixed_args(argv[1:]))


def load_command(name: str) -> tuple[Command, argparse.ArgumentParser]:
    """A command's module and its parser, whose help ends with examples."""
    module = importlib.import_module(f"benchmarks.commands.{name}")
    command = cast("Command", module)
    parser = argparse.ArgumentParser(
        prog=f"dyno {name}",
        description=COMMANDS[name][0].upper() + COMMANDS[name][1:] + ".",
        epilog=vars(module).get("EXAMPLES"),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    command.add_arguments(parser)
    return command, parser


def _parser() -> argparse.ArgumentParser:
    width = max(map(len, COMMANDS))
    listing = "\n".join(f"  {name:<{width}}  {line}" for name, line in COMMANDS.items())
    parser = argparse.ArgumentParser(
        prog="dyno",
        usage="dyno COMMAND [ARGUMENTS]",
        description="Measures deep-learning frameworks side by side, on work proven equal.",
        epilog=f"commands:\n{listing}\n\n{EXAMPLES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"dyno {benchmarks.__version__}")
    return parser


def _refuse(name: str) -> NoReturn:
    from benchmarks.planning.names import unknown_name

    raise unknown_name(name, COMMANDS, kind="command", where="dyno")


def _close_stdout() -> None:
    """Redirect stdout to nowhere, so that the interpreter's last flush does not fail again."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    sys.exit(main())
