"""Tests for detector.stream.control_topic and control_record: what is announced and withdrawn."""

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from detector.batch import Source
from detector.stream import control_topic
from detector.stream.control_record import MAX_CONTROL_BYTES, ControlRecordError, decode_window
from detector.stream.control_topic import (
    KEPT_S,
    NEWS_S,
    AnnouncedWindows,
    ControlTopic,
    Outcome,
    windows_announced,
)
from detector.stream.maintenance import Window
from detector.stream.port import (
    BrokerUnavailableError,
    ClientSettings,
    Followed,
    RawRecords,
    TopicMissingError,
)
from tests.stream.records import ListEnvelope

SETTINGS = ClientSettings("kafka-python", ("localhost:9092",))
NOW_S = 1.8e9


def text(from_s: float, until_s: float, entities: str = "web-*", kind: str = "deploy") -> bytes:
    selector = f'"selector": {{"entities": "{entities}"}}'
    return f'{{{selector}, "from": {from_s}, "until": {until_s}, "kind": "{kind}"}}'.encode()


def raw(
    *records: tuple[bytes | None, bytes | None], first_offset: int = 0, written_s: float = NOW_S
) -> RawRecords:
    n = len(records)
    return RawRecords(
        (Source("control", 0),),
        np.zeros(n, dtype=np.int64),
        np.arange(first_offset, first_offset + n),
        [value for _, value in records],
        ListEnvelope([key for key, _ in records], [[]] * n, written_s),
    )


def test_a_record_says_who_when_and_why() -> None:
    window = decode_window(
        b'{"selector": {"entities": ["web-*", "db-1"], "detectors": "hosts"}, '
        b'"from": "2026-12-01T02:00:00+01:00", "until": "2026-12-01T04:00:00Z", "kind": "deploy"}'
    )
    assert (window.from_s, window.until_s, window.kind) == (1796086800.0, 1796097600.0, "deploy")
    assert window.selector.entities is not None
    assert window.selector.entities.matches("web-1")
    assert not window.selector.entities.matches("db-2")
    assert window.selector.has("hosts")
    assert not window.selector.has("services")


def test_what_is_left_out_means_all_and_maintenance_and_utc() -> None:
    window = decode_window(b'{"selector": {}, "from": "2026-12-01T02:00:00", "until": 1796090400123}')
    assert (window.from_s, window.until_s, window.kind) == (1796090400.0, 1796090400.123, "maintenance")
    assert window.selector.entities is None
    assert window.selector.has("anything")


@pytest.mark.parametrize(
    ("value", "complaint"),
    [
        (b"", "truncated"),
        (b"nothing", "malformed"),
        (b'{"from": 1, "until": 2}', "selector"),
        (b'{"selector": {}, "until": 2}', "from"),
        (b'{"selector": {"entitys": "web-*"}, "from": 1, "until": 2}', "entitys"),
        (b'{"selector": {}, "from": 1, "until": 2, "typ": "deploy"}', "typ"),
        (b'{"selector": {}, "from": 1, "until": 2, "kind": "party"}', "party"),
        (b'{"selector": {"entities": []}, "from": 1, "until": 2}', "entities"),
        (b'{"selector": {"entities": [""]}, "from": 1, "until": 2}', "entities"),
        (b'{"selector": {}, "from": 2, "until": 2}', "no window"),
        (b'{"selector": {}, "from": 1, "until": 1e999}', "out of range|no window"),
        (
            b'{"selector": {}, "from": 1795000000, "until": 1795000600000000}',
            "until 1795000600000 .* milliseconds",
        ),
        (
            b'{"selector": {}, "from": 1795000000000000000, "until": 1795000600000000000}',
            "the years 1970 and 2200",
        ),
        (b'{"selector": {}, "from": -99999999999, "until": 1795000600}', "the years 1970 and 2200"),
        (b'{"selector": {}, "from": "tomorrow", "until": 2}', "from"),
        (b"[" * 60_000, "recursion|object"),
        (b" " * (MAX_CONTROL_BYTES + 1), "bytes"),
        (b'{"selector": {"entities": "\xff"}, "from": 1, "until": 2}', "utf-8"),
    ],
)
def test_what_cannot_be_followed_is_refused(value: bytes, complaint: str) -> None:
    with pytest.raises(ControlRecordError, match=complaint):
        decode_window(value)


def test_a_key_is_a_window_that_can_be_changed_and_withdrawn() -> None:
    announced, counts = AnnouncedWindows(), Counter[Outcome]()

    def take(*records: tuple[bytes | None, bytes | None]) -> list[tuple[float, float]]:
        announced.take(raw(*records, first_offset=sum(counts.values())), NOW_S, lambda o: counts.update([o]))
        return sorted((w.from_s - NOW_S, w.until_s - NOW_S) for w in announced.all)

    hour = text(NOW_S, NOW_S + 3600)
    assert take((b"deploy-1", hour), (None, hour), (None, hour)) == [(0, 3600)] * 3
    assert take((b"deploy-1", text(NOW_S, NOW_S + 60))) == [(0, 60), (0, 3600), (0, 3600)]
    # What cannot be read leaves what the key had said.
    assert take((b"deploy-1", b"oops"))[0] == (0, 60)
    assert take((b"deploy-1", None), (b"never", None)) == [(0, 3600)] * 2
    assert counts == {"window": 4, "refused": 1, "withdrawn": 2}


def test_windows_announced_by_now_are_those_of_the_time_that_is_asked_for(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    hour = text(NOW_S, NOW_S + 3600)
    old = text(NOW_S - KEPT_S - 7200, NOW_S - KEPT_S - 3600)
    polls = [
        raw((b"a", hour), (None, b"oops"), (b"old", old)),
        raw((b"b", hour), (b"a", None), first_offset=3),
    ]
    monkeypatch.setattr(control_topic, "read_range", lambda *_: iter(polls))
    assert [w.from_s for w in windows_announced(SETTINGS, "control", NOW_S)] == [NOW_S]
    assert len(windows_announced(SETTINGS, "control", NOW_S - 7200)) == 2
    assert not [record for record in caplog.records if record.levelno > logging.DEBUG]


def test_windows_that_ended_long_ago_are_forgotten_and_others_are_bounded(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    announced = AnnouncedWindows()
    old = text(NOW_S - KEPT_S - 100, NOW_S - KEPT_S - 1)
    announced.take(raw((b"a", old), (b"b", text(NOW_S, NOW_S + 1))), NOW_S, lambda _: None)
    assert len(announced.all) == 1
    monkeypatch.setattr(control_topic, "MOST_WINDOWS", 2)
    more = [(None, text(NOW_S, NOW_S + until)) for until in (3, 9, 6)]
    announced.take(raw(*more), NOW_S, lambda _: None)
    assert sorted(w.until_s - NOW_S for w in announced.all) == [6, 9]
    assert "4 windows are announced" in caplog.text


def test_nothing_changes_where_nothing_came() -> None:
    announced = AnnouncedWindows()
    announced.take(raw((None, text(0, NOW_S))), NOW_S, lambda _: None)
    assert announced.all is announced.all


class Script:
    """What following the topic brings, attempt after attempt; the last poll of each is held until told."""

    def __init__(self, *attempts: list[Followed | Exception]) -> None:
        self._attempts = list(attempts)
        self.reached = 0
        self.go_on = threading.Semaphore(0)

    def __call__(self, settings: ClientSettings, topic: str, poll_s: float) -> Iterator[Followed]:
        attempt = self._attempts.pop(0) if self._attempts else []
        for step in attempt:
            if isinstance(step, Exception):
                raise step
            yield step
        while True:
            self.reached += 1
            time.sleep(0.005)
            yield Followed(None, True)


def following(script: Script, count: Callable[[Outcome], None] = lambda _: None) -> ControlTopic:
    return ControlTopic(SETTINGS, "control", count, follow=script, wall_clock=lambda: NOW_S, again_s=0.01)


def wait(condition: Callable[[], bool]) -> None:
    for _ in range(6000):
        if condition():
            return
        time.sleep(0.005)
    raise AssertionError("not within 30 s")


def windows_of(control: ControlTopic) -> set[Window]:
    return set(control.windows())


def test_windows_count_once_the_whole_topic_was_read() -> None:
    records = [raw((b"a", text(NOW_S, NOW_S + 1))), raw((b"a", None), (b"b", text(NOW_S, NOW_S + 2)))]
    first = Followed(records[0], False)
    script = Script([first, BrokerUnavailableError("away")], [first, Followed(records[1], True)])
    control = following(script)
    assert not control.was_read()
    control.start()
    try:
        wait(control.was_read)
        wait(lambda: len(control.windows()) == 1)
        assert control.windows()[0].until_s == NOW_S + 2
    finally:
        control.stop()


def test_windows_stay_in_force_while_the_broker_is_away() -> None:
    known = Followed(raw((b"a", text(NOW_S, NOW_S + 1))), True)
    seen: list[int] = []

    class Watching(Script):
        def __call__(self, settings: ClientSettings, topic: str, poll_s: float) -> Iterator[Followed]:
            seen.append(len(control.windows()))
            return super().__call__(settings, topic, poll_s)

    away = BrokerUnavailableError("away")
    control = following(Watching([known, away], [away], [away], [known]))
    control.start()
    try:
        wait(lambda: len(seen) >= 4)
    finally:
        control.stop()
    assert seen[:4] == [0, 1, 1, 1]


def test_what_was_refused_long_before_the_start_is_no_news(caplog: pytest.LogCaptureFixture) -> None:
    window = text(NOW_S, NOW_S + 60)
    long_ago = Followed(raw((b"a", b"oops"), (b"a", window), written_s=NOW_S - NEWS_S - 1), False)
    lately = Followed(raw((b"b", b"oops"), first_offset=2, written_s=NOW_S - NEWS_S + 1), True)
    # Once the topic was read, whatever comes is news, however old its producer says it is.
    live = Followed(raw((b"c", b"oops"), first_offset=3, written_s=NOW_S - 1e6), True)
    counts = Counter[Outcome]()
    script = Script([long_ago, lately, live])
    control = following(script, lambda outcome: counts.update([outcome]))
    control.start()
    try:
        wait(lambda: script.reached > 0)
    finally:
        control.stop()
    assert counts == {"refused": 2}
    assert [record.args[2] for record in caplog.records if isinstance(record.args, tuple)] == [2, 3]
    assert [window.until_s for window in control.windows()] == [NOW_S + 60]


def test_what_was_told_before_a_reconnection_is_not_told_again() -> None:
    before = Followed(raw((b"a", b"oops"), (b"a", text(NOW_S, NOW_S + 60))), True)
    after = Followed(raw((b"b", b"oops"), first_offset=2), True)
    counts = Counter[Outcome]()
    script = Script([before, BrokerUnavailableError("away")], [before, after])
    control = following(script, lambda outcome: counts.update([outcome]))
    control.start()
    try:
        wait(lambda: script.reached > 0)
    finally:
        control.stop()
    assert counts == {"refused": 2, "window": 1}


def test_a_missing_topic_holds_nobody_up_and_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    missing = TopicMissingError("topic 'control' does not exist")
    script = Script([missing], [missing], [missing])
    control = following(script)
    control.start()
    try:
        wait(control.was_read)
        wait(lambda: script.reached > 0)
    finally:
        control.stop()
    assert caplog.text.count("does not exist") == 1
    assert "create it" in caplog.text


def test_an_outage_that_comes_again_is_said_again(caplog: pytest.LogCaptureFixture) -> None:
    known, away = Followed(None, True), BrokerUnavailableError("away")
    script = Script([away], [away], [known, away], [away])
    control = following(script)
    control.start()
    try:
        wait(lambda: script.reached > 0)
    finally:
        control.stop()
    said = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert len(said) == 2


def test_what_nobody_expected_is_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    script = Script([AssertionError("inside a library")], [Followed(raw((None, text(0, NOW_S))), True)])
    control = following(script)
    control.start()
    try:
        wait(lambda: len(control.windows()) == 1)
    finally:
        control.stop()
    assert "inside a library" in caplog.text
