"""The control topic: announced windows of maintenance, read from its beginning and followed, in a thread.

Every process reads all of it. A later record with the same key replaces the earlier one, one without a value
withdraws it, whether the topic is compacted or not; records without a key stand for themselves. Windows that
ended long ago are forgotten. Whatever is wrong with the topic, scoring goes on with what is known.

All records count for what is announced, but only those that are news for the log and the metrics: what was
refused long ago was said then, and a restart is no reason to say it again.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from typing import Literal

import numpy as np

from detector.batch import BoolArray, Source
from detector.stream.control_record import ControlRecordError, decode_window
from detector.stream.maintenance import Window
from detector.stream.port import (
    ClientSettings,
    Followed,
    KafkaClientError,
    RawRecords,
    TopicMissingError,
    follow_topic,
    read_range,
)

Outcome = Literal["window", "withdrawn", "refused"]

KEPT_S = 30 * 86400.0
"""A backlog may be as old as this and still know which of its records were in maintenance."""
NEWS_S = 3600.0
"""Records from before this process are news where they are not older: nobody else may have said it."""
MOST_WINDOWS = 10_000
_POLL_S = 0.5
_AGAIN_S = 5.0
"""After a failure."""

_log = logging.getLogger(__name__)


class AnnouncedWindows:
    """What the records of a control topic amount to: at most ``MOST_WINDOWS`` windows."""

    def __init__(self) -> None:
        self._by_key: dict[bytes | tuple[Source, int], Window] = {}
        self._all: tuple[Window, ...] = ()

    @property
    def all(self) -> tuple[Window, ...]:
        """The same object between two calls of ``take``."""
        return self._all

    def take(
        self,
        records: RawRecords,
        now_s: float,
        count: Callable[[Outcome], None],
        news: BoolArray | None = None,
    ) -> None:
        """Take records in, and forget what ended long before ``now_s``.

        Args:
            records: N records.
            now_s: Wall clock.
            count: Told what became of each that is news.
            news: Which are, shape (N,); None: all.
        """
        for i in range(len(records)):
            is_news = news is None or bool(news[i])
            outcome = self._take(records, i, logging.ERROR if is_news else logging.DEBUG)
            if is_news:
                count(outcome)
        self._by_key = {key: w for key, w in self._by_key.items() if w.until_s > now_s - KEPT_S}
        if len(self._by_key) > MOST_WINDOWS:
            _log.error(
                "%d windows are announced; the %d that end last are kept, the others are not heeded",
                len(self._by_key),
                MOST_WINDOWS,
            )
            latest = sorted(self._by_key.items(), key=lambda entry: entry[1].until_s)[-MOST_WINDOWS:]
            self._by_key = dict(latest)
        self._all = tuple(self._by_key.values())

    def _take(self, records: RawRecords, i: int, level: int) -> Outcome:
        source, offset = records.sources[int(records.source[i])], int(records.offset[i])
        name, value = records.key(i), records.value[i]
        key = (source, offset) if name is None else name
        if value is None:
            self._by_key.pop(key, None)
            return "withdrawn"
        try:
            self._by_key[key] = decode_window(value)
        except ControlRecordError as error:
            _log.log(
                level,
                "control record at %s[%d] offset %d is not heeded: %s",
                source.topic,
                source.partition,
                offset,
                error,
            )
            return "refused"
        return "window"


def windows_announced(settings: ClientSettings, topic: str, since_s: float) -> tuple[Window, ...]:
    """Return what a control topic announces by now, but windows that ended long before ``since_s``.

    What cannot be understood is not said again: whoever follows the topic says it.

    Raises:
        KafkaClientError: It cannot be read.
    """
    announced = AnnouncedWindows()
    for records in read_range(settings, [topic], 0.0):
        announced.take(records, since_s, lambda outcome: None, np.zeros(len(records), dtype=np.bool_))
    return announced.all


class ControlTopic:
    """Follows a control topic in a thread of its own."""

    def __init__(
        self,
        settings: ClientSettings,
        topic: str,
        count: Callable[[Outcome], None],
        *,
        follow: Callable[[ClientSettings, str, float], Iterator[Followed]] = follow_topic,
        wall_clock: Callable[[], float] = time.time,
        again_s: float = _AGAIN_S,
    ) -> None:
        """Args:
        settings: Where the brokers are.
        topic: Whose records to follow.
        count: Told what became of every record that is news, in the thread.
        follow: Reads the topic.
        wall_clock: Seconds since 1970; decides what ended long ago.
        again_s: Pause after a failure.
        """
        self._settings, self._topic = settings, topic
        self._count, self._follow, self._wall_clock = count, follow, wall_clock
        self._again_s = again_s
        self._windows: tuple[Window, ...] = ()
        self._next: dict[Source, int] = {}
        """Of each partition, the offset after the last record that was taken in, over all reconnections."""
        self._said = ""
        """Why it is not followed, as logged; empty while it is."""
        self._was_read = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="control-topic", daemon=True)

    def start(self) -> None:
        """Begin to read."""
        self._thread.start()

    def stop(self) -> None:
        """Let go of the broker; returns within seconds."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(5.0)

    def windows(self) -> tuple[Window, ...]:
        """Return what is announced; safe in any thread, and never changed once returned."""
        return self._windows

    def was_read(self) -> bool:
        """Return whether everything was read that was there at the start, or there is no such topic."""
        return self._was_read.is_set()

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self._follow_until_stopped()
            except TopicMissingError as error:
                self._was_read.set()
                self._next = {}
                self._say(f"{error}; create it, or remove control from the configuration")
            except KafkaClientError as error:
                self._say(str(error))
            except Exception as error:
                # A thread that ended would leave the windows as they are for ever.
                self._say(repr(error))
            self._stopping.wait(self._again_s)

    def _follow_until_stopped(self) -> None:
        # Anew from the beginning, while those known so far stay in force until it is read again.
        announced = AnnouncedWindows()
        following = self._follow(self._settings, self._topic, _POLL_S)
        try:
            for followed in following:
                if followed.records is not None:
                    news = self._news(followed.records)
                    announced.take(followed.records, self._wall_clock(), self._count, news)
                if followed.is_whole:
                    self._windows = announced.all
                    self._was_read.set()
                    self._followed_again()
                if self._stopping.is_set():
                    return
        finally:
            close = getattr(following, "close", None)
            if close is not None:
                close()

    def _news(self, records: RawRecords) -> BoolArray:
        """Return which records were not taken in before, nor are from long before the start, shape (N,)."""
        next_offset = np.array([self._next.get(source, 0) for source in records.sources], dtype=np.int64)
        news: BoolArray = records.offset >= next_offset[records.source]
        if not self._was_read.is_set():
            news &= ~(records.timestamps_s() < self._wall_clock() - NEWS_S)
        np.maximum.at(next_offset, records.source, records.offset + 1)
        self._next.update(zip(records.sources, next_offset.tolist(), strict=True))
        return news

    def _say(self, message: str) -> None:
        """Log a failure once, not at every attempt."""
        if message != self._said:
            _log.warning(
                "control topic %s is not followed: %s; announced so far are %d windows, trying again",
                self._topic,
                message,
                len(self._windows),
            )
        self._said = message

    def _followed_again(self) -> None:
        """Note that a failure is over: the next one is news, be it the same."""
        if self._said:
            _log.info("control topic %s is followed again: %d windows", self._topic, len(self._windows))
            self._said = ""
