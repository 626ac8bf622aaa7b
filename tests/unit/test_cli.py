"""`dyno`: commands, help, errors and exit codes."""

import json
import subprocess
import sys
from types import SimpleNamespace

import pytest

import benchmarks
from benchmarks import cli
from benchmarks.errors import EXIT_BUG, EXIT_SIGINT, EXIT_STORE, EXIT_USAGE, StoreError


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_each_commands_help_ends_with_examples(name, capsys):
    assert cli.main([name, "--help"]) == 0
    out = capsys.readouterr().out
    assert out.startswith(f"usage: dyno {name}")
    assert f"dyno {name}" in out.partition("examples:")[2]


def test_help_lists_every_command(capsys):
    assert cli.main(["--help"]) == 0
    out = capsys.readouterr().out
    assert all(f"  {name} " in out for name in cli.COMMANDS)


def test_without_a_command_help_is_shown_as_a_mistake(capsys):
    assert cli.main([]) == EXIT_USAGE
    assert "usage: dyno COMMAND" in capsys.readouterr().err


def test_version(capsys):
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"dyno {benchmarks.__version__}\n"


def test_an_unknown_command_is_refused_with_the_nearest(capsys):
    assert cli.main(["paln"]) == EXIT_USAGE
    captured = capsys.readouterr()
    assert "did you mean plan?" in captured.err
    assert captured.out == ""


@pytest.mark.parametrize("argv", [["--bogus"], ["plan", "--bogus"], ["ls", "nothing"]])
def test_an_unknown_option_is_refused(argv, capsys):
    assert cli.main(argv) == EXIT_USAGE
    assert "error:" in capsys.readouterr().err


def fake_command(monkeypatch, run):
    """Make `dyno doctor` a command that does this."""
    command = SimpleNamespace(add_arguments=lambda parser: None, run=run)
    monkeypatch.setitem(sys.modules, "benchmarks.commands.doctor", command)


def test_a_commands_exit_code_is_returned(monkeypatch):
    fake_command(monkeypatch, lambda args: 3)
    assert cli.main(["doctor"]) == 3


def raising(error):
    def run(args):
        raise error

    return run


def test_an_error_for_users_is_a_message_and_its_exit_code(monkeypatch, capsys):
    fake_command(monkeypatch, raising(StoreError("the store is damaged", "restore it")))
    assert cli.main(["doctor"]) == EXIT_STORE
    assert capsys.readouterr().err == "the store is damaged\nhint: restore it\n"


def test_anything_else_is_a_bug_with_its_traceback(monkeypatch, capsys):
    fake_command(monkeypatch, raising(KeyError("oops")))
    assert cli.main(["doctor"]) == EXIT_BUG
    err = capsys.readouterr().err
    assert "Traceback" in err
    assert "KeyError: 'oops'" in err
    assert "this is a bug in Dyno" in err


def test_an_interrupt_is_130(monkeypatch):
    fake_command(monkeypatch, raising(KeyboardInterrupt()))
    assert cli.main(["doctor"]) == EXIT_SIGINT


def test_help_loads_nothing_heavy():
    script = (
        "import json, sys\n"
        "from benchmarks import cli\n"
        "cli.main(['--help'])\n"
        "print(json.dumps(sorted({name.split('.')[0] for name in sys.modules})))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    loaded = set(json.loads(done.stdout.splitlines()[-1]))
    assert "argparse" in loaded
    assert not loaded & {"hydra", "omegaconf", "numpy", "pandas", "scipy", "rich", "yaml", "torch"}


def test_a_closed_pipe_ends_quietly():
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.cli", "ls", "suites"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait() == cli.EXIT_SIGPIPE
