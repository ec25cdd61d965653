"""The ``detector`` command: a table of sub-commands, each imported when it is called."""

import importlib
import os
from typing import NamedTuple

import click

from detector import __version__


class _Command(NamedTuple):
    """Where a sub-command lives; listing it must not import it."""

    module: str
    function: str
    help: str
    one_blas_thread: bool = False
    """Batches are small: threads that wait for each other cost more than they give."""


COMMANDS = {
    "demo": _Command(
        "detector.cli.demo",
        "demo",
        "Watch real incidents being found; needs no server.",
        one_blas_thread=True,
    ),
    "check": _Command("detector.cli.check", "check", "Say what is wrong with a configuration."),
    "train": _Command("detector.cli.train", "train", "Learn from files or a topic's range; write a bundle."),
    "run": _Command(
        "detector.cli.run", "run", "Score records from Kafka until stopped: the daemon.", one_blas_thread=True
    ),
    "notify": _Command("detector.cli.notify", "notify", "Tell Alertmanager and webhooks of alerts."),
    "explain": _Command(
        "detector.cli.explain",
        "explain",
        "Say why an alert fired, and who else did.",
        one_blas_thread=True,
    ),
    "backtest": _Command(
        "detector.cli.backtest", "backtest", "Send a file down the daemon's path.", one_blas_thread=True
    ),
    "models": _Command("detector.cli.models", "models", "List, show and verify trained versions."),
    "generate": _Command(
        "detector.cli.generate", "generate", "Draw synthetic records from a trained version."
    ),
}


class _LazyGroup(click.Group):
    """Imports a sub-command's module only to run it or to show its own help."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        entry = COMMANDS.get(cmd_name)
        if entry is None:
            return None
        if entry.one_blas_thread:
            # Before numpy is imported: BLAS reads them once.
            for variable in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
                os.environ.setdefault(variable, "1")
        command = getattr(importlib.import_module(entry.module), entry.function)
        if not isinstance(command, click.Command):
            raise TypeError(f"{entry.module}.{entry.function} is {command!r}, not a click command")
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, entry.help) for name, entry in COMMANDS.items()])


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="detector", message="%(prog)s %(version)s")
def main() -> None:
    """Watch Kafka topics of feature vectors; alert when one is improbable."""


if __name__ == "__main__":
    main(prog_name="detector")
