"""Tests for detector.logs: one event a line, and no secret at any level."""

import io
import json
import logging
from collections.abc import Iterator
from typing import Any, Literal

import pytest
import structlog
from kafka import errors as kafka_errors

from detector.logs import configure_logs


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    libraries = {
        name: logging.getLogger(name).level for name in ("kafka", "uvicorn", "uvicorn.access", "asyncio")
    }
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    for name, before in libraries.items():
        logging.getLogger(name).setLevel(before)
    structlog.reset_defaults()


def lines_of(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_json_has_one_event_a_line() -> None:
    stream = io.StringIO()
    configure_logs("info", "json", stream)
    logging.getLogger("detector.stream").warning("topic %s: lag %d", "t", 7, extra={"partition": 3})
    structlog.get_logger("detector.x").info("two\nlines", entity="a")
    first, second = lines_of(stream)
    assert first["message"] == "topic t: lag 7"
    assert (first["level"], first["logger"], first["partition"]) == ("warning", "detector.stream", 3)
    assert first["timestamp"].endswith("Z")
    assert (second["message"], second["entity"]) == ("two\nlines", "a")


def test_an_exception_stays_on_its_line() -> None:
    stream = io.StringIO()
    configure_logs("info", "json", stream)
    try:
        raise ValueError("no such thing")
    except ValueError:
        logging.getLogger("detector").exception("failed")
    (line,) = lines_of(stream)
    assert line["exception"][0]["exc_value"] == "no such thing"


@pytest.mark.parametrize("format", ["json", "console"])
def test_an_exception_is_told_without_local_variables(format: Literal["json", "console"]) -> None:
    def log_in(password: str) -> None:
        raise ConnectionResetError(104, "Connection reset by peer")

    stream = io.StringIO()
    configure_logs("info", format, stream)
    try:
        log_in("hunt" + "er2")
    except ConnectionResetError:
        logging.getLogger("kafka.net.transport").exception("Error sending request data")
        structlog.get_logger("detector").exception("failed")
    assert stream.getvalue().count("Connection reset by peer") >= 2
    assert "log_in" in stream.getvalue()
    assert "hunter2" not in stream.getvalue()


def test_console_is_text() -> None:
    stream = io.StringIO()
    configure_logs("info", "console", stream)
    logging.getLogger("detector").info("hello")
    assert "hello" in stream.getvalue()
    assert not stream.getvalue().startswith("{")


def test_less_important_events_are_left_out() -> None:
    stream = io.StringIO()
    configure_logs("warning", "json", stream)
    logging.getLogger("detector").info("quiet")
    logging.getLogger("kafka.client").info("quiet")
    logging.getLogger("detector").warning("loud")
    assert [line["message"] for line in lines_of(stream)] == ["loud"]


@pytest.mark.parametrize(("level", "shown"), [("info", ["refused"]), ("debug", ["connected", "refused"])])
def test_the_kafka_client_tells_of_its_connections_only_at_debug(level: str, shown: list[str]) -> None:
    stream = io.StringIO()
    configure_logs(level, "json", stream)
    logging.getLogger("kafka.net.connection").info("connected")
    logging.getLogger("kafka.net.connection").warning("refused")
    assert [line["message"] for line in lines_of(stream)] == shown


def test_the_kafka_client_never_speaks_at_debug_even_if_it_sets_its_own_level() -> None:
    stream = io.StringIO()
    configure_logs("debug", "json", stream)
    for name in ("kafka", "kafka.protocol.parser", "kafka.net.connection"):
        logger = logging.getLogger(name)
        before = logger.level
        logger.setLevel(logging.DEBUG)
        logger.debug("SaslAuthenticateRequest(auth_bytes=hunter2)")
        logger.setLevel(before)
    logging.getLogger("detector").debug("shown")
    assert [line["message"] for line in lines_of(stream)] == ["shown"]
    assert "hunter2" not in stream.getvalue()


def test_what_the_kafka_client_takes_for_a_failure_and_is_none_is_not_told() -> None:
    stream = io.StringIO()
    configure_logs("info", "json", stream)
    cluster, selector = logging.getLogger("kafka.cluster"), logging.getLogger("kafka.net.selector")
    cluster.error("Metadata refresh: failed %s", kafka_errors.Cancelled())
    cluster.error("Metadata refresh: failed %s", kafka_errors.KafkaConnectionError("refused"))
    selector.warning("Task <x> ran for 0.122s (>0.100s threshold). It is blocking the event loop -- likely")
    selector.warning("Task <x> failed")
    logging.getLogger("detector").warning("somebody is blocking the event loop")
    assert [line["message"] for line in lines_of(stream)] == [
        "Metadata refresh: failed KafkaConnectionError: refused",
        "Task <x> failed",
        "somebody is blocking the event loop",
    ]


def test_configuring_twice_writes_each_event_once() -> None:
    first, second = io.StringIO(), io.StringIO()
    configure_logs("info", "json", first)
    configure_logs("info", "json", second)
    logging.getLogger("detector").info("once")
    assert first.getvalue() == ""
    assert len(lines_of(second)) == 1


def test_the_kafka_client_says_the_same_once_a_minute() -> None:
    stream = io.StringIO()
    configure_logs("info", "json", stream)
    for second in range(120):
        for name, message, waits_s in (
            ("kafka.cluster", "Topic scores not found in cluster metadata", ()),
            ("kafka.net.manager", "Bootstrap %s not ready; waiting %.2f secs", ("b-0", second / 7)),
            ("detector.stream", "said as often as it is said", ()),
        ):
            logger = logging.getLogger(name)
            record = logger.makeRecord(name, logging.ERROR, "", 0, message, waits_s, None)
            record.created = 1.8e9 + second
            logger.handle(record)
    loggers = [line["logger"] for line in lines_of(stream)]
    assert loggers.count("kafka.cluster") == loggers.count("kafka.net.manager") == 2
    assert loggers.count("detector.stream") == 120
