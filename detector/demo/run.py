"""The demonstration, step by step: broker, training, daemon, telemetry, summary."""

import socket
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from detector.demo.children import Child, child
from detector.demo.configuration import (
    ALERTS_TOPIC,
    DEAD_LETTER_TOPIC,
    DETECTORS,
    SCORES_TOPIC,
    TOPIC,
    Budget,
    write_configuration,
)
from detector.demo.evaluation import evaluate
from detector.demo.scrape import is_ready
from detector.demo.show import Show
from detector.demo.summary import Outcome, print_summary
from detector.demo.telemetry import INTERVAL_S, Telemetry, data_folder, load_telemetry, write_training_file
from detector.stream.embedded import EmbeddedBroker
from detector.stream.port import ClientSettings, Consumer, open_consumer, open_producer

DEFAULT_SPEED_UP = 60_000.0
_TRAINING_TIMEOUT_S = 300.0
_READY_TIMEOUT_S = 60.0
_CLOSING_S = 4.0
"""Kept of the time given, to drain, to stop the daemon and to sum up."""
_WAIT_S = 0.1


class DemoTimeoutError(RuntimeError):
    """A step of the demonstration took far longer than it should, or than there was time."""


@dataclass(frozen=True, slots=True)
class DemoOptions:
    """What can be chosen."""

    servers: int = 6
    seconds: float | None = None
    """Bound of the whole, None without."""
    speed_up: float | None = None
    """Event time per second; None takes the default, or what the bound needs."""
    keep: bool = False
    """Whether the daemon goes on serving after the summary."""


def run_demo(options: DemoOptions, console: Console) -> int:
    """Run the demonstration and return the exit code: 0 only if everything sent was scored.

    Raises:
        DemoDataError: The example data is not there.
        ChildFailedError: Training or the daemon failed; the message holds its last words.
        DemoTimeoutError: Training or the start of the daemon takes too long, so that nothing was sent.
        KafkaClientError: The embedded broker does not answer.
    """
    started_s = time.monotonic()
    stop_s = float("inf") if options.seconds is None else started_s + options.seconds - _CLOSING_S
    with ExitStack() as resources:
        folder = Path(resources.enter_context(tempfile.TemporaryDirectory(prefix="detector-demo-")))
        data = data_folder()
        telemetry = load_telemetry(data, options.servers, time.time())
        training_rows = write_training_file(data, telemetry, folder / "train.parquet")
        features = telemetry.records.feature_names
        console.print(
            f"{len(telemetry.servers)} application servers, {len(features)} metrics each, a record every "
            f"{INTERVAL_S / 60:.0f} minutes. Embedded broker: for demonstration only.",
            highlight=False,
        )
        broker = resources.enter_context(EmbeddedBroker())
        broker.create_topics(TOPIC, SCORES_TOPIC, ALERTS_TOPIC, DEAD_LETTER_TOPIC)
        broker.create_topics(TOPIC, SCORES_TOPIC, ALERTS_TOPIC, DEAD_LETTER_TOPIC)
        address = f"127.0.0.1:{_free_port()}"
        budget = Budget()
        config = write_configuration(
            folder, broker.bootstrap_servers, features, folder / "train.parquet", address, budget
        )
        settings = ClientSettings("confluent", (broker.bootstrap_servers,), "detector-demo-view")
        consumer = open_consumer(settings)
        resources.callback(consumer.close)
        consumer.subscribe([SCORES_TOPIC, ALERTS_TOPIC])

        what = f"{' and '.join(DETECTORS)} on {training_rows} records of their past"
        with console.status(f"training {what}"):
            _train(config, folder, consumer, stop_s)
        console.print(f"Trained {what} in {time.monotonic() - started_s:.1f} s.", highlight=False)
        daemon = resources.enter_context(child("run", ["run", str(config)], folder))
        with console.status("starting the daemon"):
            _wait_until_ready(daemon, address, consumer, stop_s)
        console.print(f"The daemon is ready: curl http://{address}/metrics", highlight=False)

        producer = open_producer(settings)
        resources.callback(producer.close)
        speed_up = _speed_up(options, telemetry, stop_s - time.monotonic())
        show = Show(telemetry, consumer, daemon, address)
        sent, streamed_s = show.stream(producer, speed_up, stop_s, started_s, console)
        # Stopped first, where it is to be stopped: then nothing more can follow.
        code = 0 if options.keep else daemon.stop()
        show.drain()
        outcome = summed_up(telemetry, sent, speed_up, streamed_s, show, budget)
        print_summary(console, outcome)
        if code != 0:
            console.print(f"the daemon ended with exit code {code}:\n{daemon.last_words()}", markup=False)
        if options.keep:
            _serve_on(daemon, address, consumer, console)
        return 0 if outcome.complete and code == 0 else 1


def summed_up(
    telemetry: Telemetry, sent: int, speed_up: float, streamed_s: float, show: Show, budget: Budget
) -> Outcome:
    """Hold what was observed against the labels of what was sent."""
    records = telemetry.records
    first, last = float(records.time[0]), float(records.time[max(sent - 1, 0)])
    incidents = tuple(incident for incident in telemetry.incidents if sent and incident.start <= last)
    episodes = {name: show.observed.episodes(name, last) for name in DETECTORS}
    watched_s = len(telemetry.servers) * (last - first)
    return Outcome(
        sent=sent,
        total=len(records),
        observed=show.observed,
        evaluations={name: evaluate(incidents, found, INTERVAL_S) for name, found in episodes.items()},
        incidents=incidents,
        firing_share={
            name: sum(episode.end - episode.start for episode in found) / max(watched_s, 1.0)
            for name, found in episodes.items()
        },
        server_days=watched_s / 86400,
        budget_per_server_day=budget.per_server_day,
        scrape=show.scrape,
        speed_up=speed_up,
        streamed_s=streamed_s,
    )


def _speed_up(options: DemoOptions, telemetry: Telemetry, available_s: float) -> float:
    """Return the speed asked for; without one, what shows everything in the time given."""
    if options.speed_up is not None:
        return options.speed_up
    span_s = float(telemetry.records.time[-1] - telemetry.records.time[0])
    # A tenth is left over: what is sent in the last moment could still miss the end.
    return max(DEFAULT_SPEED_UP, span_s / max(0.9 * available_s, 1.0))


def _check_time_left(stop_s: float, what: str) -> None:
    if time.monotonic() > stop_s:
        raise DemoTimeoutError(
            f"nothing was sent: {what} when the time given was up, but for the {_CLOSING_S:.0f} s that the "
            "end takes; give more --seconds, or fewer --servers"
        )


def _train(config: Path, folder: Path, consumer: Consumer, stop_s: float) -> None:
    """Run ``detector train`` for both detectors at once."""
    deadline_s = time.monotonic() + _TRAINING_TIMEOUT_S
    with ExitStack() as jobs:
        children = [
            jobs.enter_context(child(f"train {name}", ["train", str(config), name], folder))
            for name in DETECTORS
        ]
        while not all(job.ended_well() for job in children):
            # Joining its group takes the reader of the outputs a few seconds, which pass here.
            consumer.poll(1, _WAIT_S)
            _check_time_left(stop_s, "training was not done")
            if time.monotonic() > deadline_s:
                raise DemoTimeoutError(f"training is not done after {_TRAINING_TIMEOUT_S:.0f} s; given up")


def _wait_until_ready(daemon: Child, address: str, consumer: Consumer, stop_s: float) -> None:
    deadline_s = time.monotonic() + _READY_TIMEOUT_S
    while not is_ready(address):
        daemon.check_running()
        consumer.poll(1, _WAIT_S)
        _check_time_left(stop_s, "the daemon was not ready")
        if time.monotonic() > deadline_s:
            raise DemoTimeoutError(
                f"the daemon is not ready after {_READY_TIMEOUT_S:.0f} s:\n{daemon.last_words()}"
            )


def _serve_on(daemon: Child, address: str, consumer: Consumer, console: Console) -> None:
    """Wait until the daemon ends or somebody presses Ctrl-C."""
    console.print(f"\nThe daemon goes on: curl http://{address}/metrics   (Ctrl-C ends it)", highlight=False)
    try:
        while True:
            daemon.check_running()
            consumer.poll(1, _WAIT_S)
    except KeyboardInterrupt:
        console.print("stopping")


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port
