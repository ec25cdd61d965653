"""Log lines for operators: one event a line on stderr, JSON or readable, from all libraries alike."""

import logging
import re
import sys
from typing import Any, Literal, TextIO

import structlog

# Libraries that say more than operators want, and the least that is shown of them. At DEBUG the Kafka
# client writes the SASL password in clear, so it never gets there.
_LIBRARY_LEVELS = {
    "kafka": logging.INFO,
    "uvicorn": logging.WARNING,
    "uvicorn.access": logging.WARNING,
    "asyncio": logging.WARNING,
}

# What the Kafka client says as loud as a failure although nothing failed, by logger.
_NO_NEWS = {
    # A reader was closed while it asked.
    "kafka.cluster": "Metadata refresh: failed Cancelled",
    # Other work of this process had the CPU for a tenth of a second.
    "kafka.net.selector": "blocking the event loop",
}

REPEATED_AFTER_S = 60.0
"""What the Kafka client says again and again, it says so often at most."""


def configure_logs(level: str, format: Literal["json", "console"], stream: TextIO | None = None) -> None:
    """Send every log record of the process to one stream.

    Args:
        level: debug, info, warning or error; the least important that is shown.
        format: ``json`` for machines, ``console`` for people.
        stream: stderr without.
    """
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    out = stream or sys.stderr
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared,
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            *_renderers(format, colors=out.isatty()),
        ],
    )
    handler = logging.StreamHandler(out)
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for name, least in _LIBRARY_LEVELS.items():
        library = logging.getLogger(name)
        library.setLevel(max(least, root.level))
    if root.level > logging.DEBUG:
        # It tells of every connection that it opens and closes.
        logging.getLogger("kafka").setLevel(max(logging.WARNING, root.level))
    # The level of a child may be set below its parent's; only a filter on the handler is final.
    handler.addFilter(_at_least_its_library_level)
    handler.addFilter(_is_news)
    handler.addFilter(_Repetitions().are_over)
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.processors.StackInfoRenderer(),
            structlog.stdlib.PositionalArgumentsFormatter(),
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )


def _renderers(format: Literal["json", "console"], *, colors: bool) -> list[Any]:
    if format == "json":
        return [
            # Never with local variables: passwords are among them.
            structlog.processors.ExceptionRenderer(
                structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
            ),
            structlog.processors.EventRenamer("message"),
            structlog.processors.JSONRenderer(default=str),
        ]
    return [structlog.dev.ConsoleRenderer(colors=colors, exception_formatter=structlog.dev.plain_traceback)]


def _at_least_its_library_level(record: logging.LogRecord) -> bool:
    return record.levelno >= _LIBRARY_LEVELS.get(record.name.partition(".")[0], logging.NOTSET)


def _is_news(record: logging.LogRecord) -> bool:
    return record.name not in _NO_NEWS or _NO_NEWS[record.name] not in record.getMessage()


class _Repetitions:
    """What the Kafka client said lately: while a broker is away, the same several times a second."""

    _WAITS = re.compile(r"[0-9.]+ secs")

    def __init__(self) -> None:
        self._said_s: dict[tuple[str, str], float] = {}

    def are_over(self, record: logging.LogRecord) -> bool:
        if record.name.partition(".")[0] != "kafka":
            return True
        self._said_s = {
            line: said_s
            for line, said_s in self._said_s.items()
            if record.created - said_s < REPEATED_AFTER_S
        }
        line = record.name, self._WAITS.sub("", record.getMessage())
        if line in self._said_s:
            return False
        self._said_s[line] = record.created
        return True
