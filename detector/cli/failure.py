"""Errors that a person can act on: their message without a traceback, and exit code 2."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any

import click


class Failure(click.ClickException):
    """Ends the command with its message."""

    exit_code = 2

    def show(self, file: IO[Any] | None = None) -> None:
        """Write the message to stderr, as it is."""
        click.echo(self.message, file=file, err=True)


@contextmanager
def explained(*errors: type[Exception]) -> Iterator[None]:
    """Turn these errors into a ``Failure`` with the same message."""
    try:
        yield
    except errors as error:
        raise Failure(str(error)) from error
