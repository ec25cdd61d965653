"""The stream itself: send what is due, read what the daemon answers, show both, until all is answered."""

import time
from collections import deque

import numpy as np
from rich.console import Console

from detector.demo.children import Child
from detector.demo.configuration import ALERTS_TOPIC, DETECTORS, SCORES_TOPIC, TOPIC
from detector.demo.feed import Feed
from detector.demo.observed import Alert, Observed
from detector.demo.scrape import Scrape, scrape
from detector.demo.screen import Screen
from detector.demo.summary import is_labelled
from detector.demo.telemetry import Telemetry
from detector.demo.view import EventLine, ServerLine, Snapshot
from detector.stream.port import Consumer, Producer, RawRecords

_DRAIN_TIMEOUT_S = 30.0
_STEP_S = 0.05
_SCRAPE_EVERY_S = 0.5
_MAX_RECORDS = 10_000
_RATE_OVER = 40
"""Steps over which records per second are counted: about two seconds."""


class Show:
    """Everything between the first record sent and the last one scored.

    What is shown and counted comes from the output topics and from /metrics alone.
    """

    def __init__(self, telemetry: Telemetry, consumer: Consumer, daemon: Child, address: str) -> None:
        """Args:
        telemetry: What is sent.
        consumer: Subscribed to the output topics.
        daemon: Watched, so that its end is noticed.
        address: Of its HTTP port.
        """
        self._telemetry = telemetry
        self._consumer = consumer
        self._daemon = daemon
        self._address = address
        self.observed = Observed(TOPIC, DETECTORS)
        self.scrape = Scrape()
        """The newest one."""

    def stream(
        self, producer: Producer, speed_up: float, stop_s: float, started_s: float, console: Console
    ) -> tuple[int, float]:
        """Send, read and show; return how many records were sent, and the seconds from first to last answer.

        Ends when everything sent is answered, or 30 s after the last record was sent.

        Args:
            producer: Where to send.
            speed_up: Event time per second.
            stop_s: Monotonic time after which nothing more is sent.
            started_s: Monotonic time at which the demonstration began.
            console: Where to show.

        Raises:
            ChildFailedError: The daemon ended.
        """
        feed = Feed(producer, TOPIC, self._telemetry.records, speed_up)
        first_s = last_sent_s = now_s = time.monotonic()
        answers: deque[tuple[float, int]] = deque(maxlen=_RATE_OVER)
        scraped_s = float("-inf")
        with Screen(console) as screen:
            while True:
                now_s = time.monotonic()
                sending = not feed.finished and now_s < stop_s
                if sending and feed.step(now_s - first_s, self.observed.answered):
                    last_sent_s = now_s
                self.read(_STEP_S)
                answers.append((now_s, self.observed.answered))
                if now_s - scraped_s >= _SCRAPE_EVERY_S:
                    scraped_s = now_s
                    self.scrape = scrape(self._address) or self.scrape
                    self._daemon.check_running()
                done = not sending and self.observed.answered >= feed.sent
                given_up = not sending and now_s - last_sent_s > _DRAIN_TIMEOUT_S
                if done or given_up or screen.wants(now_s):
                    screen.show(self._snapshot(feed, speed_up, now_s - started_s, answers), now_s)
                if done or given_up:
                    return feed.sent, now_s - first_s

    def read(self, timeout_s: float) -> int:
        """Read once from the output topics and return how many records came."""
        raw = self._consumer.poll(_MAX_RECORDS, timeout_s)
        if len(raw):
            self.observed.add_scores(_of_topic(raw, SCORES_TOPIC))
            self.observed.add_alerts(_of_topic(raw, ALERTS_TOPIC))
        return len(raw)

    def drain(self, quiet_s: float = 1.0, timeout_s: float = 10.0) -> None:
        """Read until nothing came for a while: alerts may follow the scores of their batch."""
        start_s = quiet_since_s = time.monotonic()
        while (now_s := time.monotonic()) - quiet_since_s < quiet_s and now_s - start_s < timeout_s:
            if self.read(_STEP_S):
                quiet_since_s = time.monotonic()

    def _snapshot(
        self, feed: Feed, speed_up: float, elapsed_s: float, answers: deque[tuple[float, int]]
    ) -> Snapshot:
        event_time = feed.event_time
        firing = self.observed.firing()
        happening = {i.entity for i in self._telemetry.incidents if i.start <= event_time <= i.end}
        servers = tuple(
            ServerLine(
                server,
                server in happening,
                tuple(self.observed.latest.get((detector, server)) for detector in DETECTORS),
                tuple((detector, server) in firing for detector in DETECTORS),
            )
            for server in self._telemetry.servers
        )
        (since_s, before), (until_s, after) = answers[0], answers[-1]
        return Snapshot(
            elapsed_s=elapsed_s,
            event_time=event_time,
            speed_up=speed_up,
            sent=feed.sent,
            total=len(self._telemetry.records),
            answered=self.observed.answered,
            records_per_s=(after - before) / (until_s - since_s) if until_s > since_s else 0.0,
            lag=self.scrape.lag,
            detectors=DETECTORS,
            servers=servers,
            events=tuple(self._event(alert, fires, event_time) for alert, fires in self.observed.recent),
        )

    def _event(self, alert: Alert, fires: bool, now: float) -> EventLine:
        event = alert.firing
        if fires:
            text = event.return_period
            if event.reasons:
                top = event.reasons[0]
                actual = "missing" if top.actual is None else f"{top.actual:.2f}"
                text += f"; {top.feature} {actual}, expected {top.expected:.2f} ± {top.std:.2f}"
        else:
            episode = alert.episode(now)
            text = f"after {(episode.end - episode.start) / 60:.0f} min"
        transition = event if fires else alert.resolved or event
        labelled = is_labelled(alert, self._telemetry.incidents)
        time_s = transition.time.timestamp()
        return EventLine(time_s, event.entity, event.detector, fires, labelled, text)


def _of_topic(raw: RawRecords, topic: str) -> list[bytes]:
    """Return the values that came from a topic, in order."""
    wanted = np.array([source.topic == topic for source in raw.sources])[raw.source]
    return [value for i in np.flatnonzero(wanted).tolist() if (value := raw.value[i]) is not None]
