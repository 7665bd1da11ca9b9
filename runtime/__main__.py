"""The runtime's commands: `up`, `demo`, `inbox`, `temporal`, `payload-key` and `pgbench`."""

import argparse
import importlib
import os
import sys
from collections.abc import Callable

from runtime.cannot_run import CannotRun
from runtime.settings import DevelopmentSettings, SettingsInvalid, read_development_settings

Command = Callable[[DevelopmentSettings], int]

# Each is imported only when it is asked for: the inbox has no need of Temporal, which takes a second.
_COMMANDS = {
    "up": ("runtime.up", "run_up", "start everything, with a demo owner, until Ctrl-C"),
    "demo": ("runtime.demo.play", "run_demo", "play the story of a top-up in a temporary place"),
    "inbox": ("runtime.inbox", "run_inbox", "take mail and pushes, and show them"),
    "temporal": (
        "runtime.temporal_program",
        "print_temporal_program",
        "find or fetch the Temporal program and print its path",
    ),
    "payload-key": (
        "runtime.payload_keys",
        "print_payload_key",
        "make a key that encrypts what Temporal keeps, and print it",
    ),
    "pgbench": ("runtime.embedded_postgres", "print_pgbench", "print the path of pgbench"),
}


def main() -> int:
    """Run the command that the arguments name. Returns the exit code: 2 when a setting cannot be used."""
    name = _chosen(sys.argv[1:])
    try:
        settings = read_development_settings()
        return _command(name)(settings)
    except SettingsInvalid as invalid:
        sys.stderr.write(f"{invalid}\n")
        return 2
    except CannotRun as reason:
        sys.stderr.write(f"{reason}\n")
        return 1
    except KeyboardInterrupt:
        return 130


def _chosen(arguments: list[str]) -> str:
    parser = argparse.ArgumentParser(prog="python -m runtime", description="Run Tidemark on this machine.")
    commands = parser.add_subparsers(required=True, metavar="command", dest="command")
    for name, (_, _, words) in _COMMANDS.items():
        commands.add_parser(name, help=words)
    chosen: str = parser.parse_args(arguments).command
    return chosen


def _command(name: str) -> Command:
    module, function, _ = _COMMANDS[name]
    command: Command = getattr(importlib.import_module(module), function)
    return command


if __name__ == "__main__":
    status = main()
    sys.stdout.flush()
    sys.stderr.flush()
    # Temporal's library can crash while the interpreter is taken down, which would spoil the exit code.
    os._exit(status)
