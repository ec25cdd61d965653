"""What the benchmarks' command lines have in common."""

import argparse
import sys
from collections.abc import Iterable
from typing import TypeVar

Name = TypeVar("Name", bound=str)


def parser(documentation: str | None) -> argparse.ArgumentParser:
    """Return a parser whose help is a module's documentation, as it is written."""
    return argparse.ArgumentParser(
        description=documentation, formatter_class=argparse.RawDescriptionHelpFormatter
    )


def chosen(text: str, known: Iterable[Name], what: str) -> list[Name]:
    """Return the names in a comma-separated list; end the process at one that is not known.

    Args:
        text: As given.
        known: All there are.
        what: A name is of, for the message.
    """
    by_name: dict[str, Name] = {name: name for name in known}
    names = [name.strip() for name in text.split(",") if name.strip()]
    for name in names:
        if name not in by_name:
            sys.exit(f"no {what} is called {name!r}; there are {', '.join(by_name)}")
    return [by_name[name] for name in names]
