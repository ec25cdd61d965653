"""Tests for detector.demo.scrape."""

import socket

from detector.demo.scrape import Scrape, is_ready, parse, scrape

TEXT = """\
# HELP detector_consumer_lag_records Records behind the high watermark.
# TYPE detector_consumer_lag_records gauge
detector_consumer_lag_records{partition="0",topic="demo.telemetry"} 3.0
detector_consumer_lag_records{partition="1",topic="demo.telemetry"} 4.0
# HELP detector_p_value_threshold A record with a p-value at most this is suspicious.
# TYPE detector_p_value_threshold gauge
detector_p_value_threshold{detector="gmm"} 0.0125
detector_p_value_threshold{detector="hmm"} 0.011
# HELP detector_dead_letters_total Records that could not be read, by reason.
# TYPE detector_dead_letters_total counter
detector_dead_letters_total{input="servers",reason="no_time"} 2.0
"""


def test_lag_is_summed_over_partitions_and_thresholds_are_told_apart() -> None:
    assert parse(TEXT) == Scrape(lag=7, p_value_threshold={"gmm": 0.0125, "hmm": 0.011}, dead_letters=2)


def test_metrics_that_are_not_there_yet_are_not_invented() -> None:
    assert parse("") == Scrape()


def test_daemon_that_does_not_answer_is_not_ready() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{listener.getsockname()[1]}"  # bound, but nobody listens
        assert not is_ready(address)
        assert scrape(address) is None
