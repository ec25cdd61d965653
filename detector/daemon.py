"""Wiring: from a configuration to a running loop, and back down in reverse order."""

import gc
import logging
import math
import time
from collections.abc import Callable, Collection, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from prometheus_client import CollectorRegistry

from detector import __version__
from detector.alerting.absence_event import LASTS_S
from detector.alerting.event import expires_at
from detector.batch import Source
from detector.bootstrap.background import Background
from detector.bootstrap.bootstrap import Bootstrap
from detector.bootstrap.champion import StoredChampion
from detector.bootstrap.following import Following
from detector.bootstrap.training_child import TrainingChild
from detector.bundles.store import BundleStore
from detector.config.detectors import DetectorConfig
from detector.config.inputs import InputConfig
from detector.config.root import Config
from detector.from_config import client_settings, input_schema, maintenance
from detector.signals import stopped_by_signals
from detector.stream.answered import Outputs
from detector.stream.arrivals import Arrivals
from detector.stream.codec_json import InputSchema, JsonCodec
from detector.stream.control_topic import ControlTopic
from detector.stream.expiry import Expiry
from detector.stream.input import Input
from detector.stream.loop import Loop
from detector.stream.maintenance import Maintenance
from detector.stream.port import (
    ClientFailedError,
    ClientSettings,
    open_consumer,
    open_producer,
    read_range,
)
from detector.stream.presence import Presence
from detector.stream.reasons import Reason
from detector.stream.recall import Recalled, recall
from detector.stream.watch import Watch
from detector.stream.watchdog import Watchdog
from detector.web.health import Health
from detector.web.metrics import Metrics
from detector.web.server import WebServer, application

_log = logging.getLogger(__name__)

_GC_THRESHOLD = 50_000
"""New objects before the garbage collector looks for cycles among them."""


def run(config: Config, file: Path) -> None:
    """Score records until SIGTERM or SIGINT.

    Args:
        config: What to do.
        file: Where that was read from: training jobs of detectors that bootstrap read it again.

    Everything that can be wrong with the files is found before anything is connected. A broker that is
    away is not an error: the daemon starts, is not ready, and keeps trying.

    Raises:
        BundleError: A detector has no bundle that this configuration can use.
        PathError: An input's field paths contradict one another.
        WebError: The HTTP port cannot be served.
        ClientSettingsError: The Kafka settings can never work.
        SystemExit: The Kafka client is beyond repair, or another replica has the instance id.
    """
    with ExitStack() as resources:
        registry, health = CollectorRegistry(), Health()
        metrics = Metrics(registry, health, config.web.entity_series)
        settings = client_settings(config)
        control = None
        if config.control is not None:
            control = ControlTopic(settings, config.control.topic, metrics.control_record)
        windows = maintenance(config, None if control is None else control.windows)
        background = Background()
        resources.callback(background.stop)
        background.start()
        inputs = [
            _input(config, entry, metrics, windows, file, background, resources) for entry in config.inputs
        ]
        health.models_loaded = True
        server = WebServer(application(registry, health), config.web.host, config.web.port)
        resources.callback(server.stop)
        watchdog = Watchdog()
        outputs = Outputs(
            config.outputs.scores_topic,
            config.outputs.alerts_topic,
            config.outputs.dead_letter_topic,
            config.kafka.group_id,
        )
        for topic in outputs.topics:
            metrics.output_added(topic)
        loop = Loop(
            inputs,
            outputs,
            partial(open_consumer, settings),
            partial(open_producer, settings),
            metrics,
            watchdog,
            overlap=settings.client == "confluent",
            windows_known=None if control is None else control.was_read,
            recall=_reader_back(settings, config.outputs.alerts_topic, inputs),
        )
        resources.enter_context(stopped_by_signals(loop.stop))
        # Not before: whoever sees that it answers may want it to stop.
        server.start()
        if control is not None:
            resources.callback(control.stop)
            control.start()
        resources.callback(watchdog.stop)
        watchdog.start()
        # What was loaded lives as long as the process, and a poll is thousands of short-lived messages:
        # looking for cycles among them at every 700th costs a tenth of the processor and finds none.
        gc.freeze()
        gc.set_threshold(_GC_THRESHOLD)
        _log.info(
            "detector %s: detectors %s read topics %s as group %s; metrics on http://%s:%d/metrics",
            __version__,
            _versions(inputs),
            ", ".join(topic for entry in config.inputs for topic in entry.topics),
            config.kafka.group_id,
            config.web.host,
            server.port,
        )
        try:
            loop.run()
        except ClientFailedError as error:
            _log.error("%s; ending with code %d", error, error.exit_code)
            raise SystemExit(error.exit_code) from error
        _log.info("stopped: everything read was written and committed, or will be read again")


def _reader_back(
    settings: ClientSettings, topic: str, inputs: Sequence[Input]
) -> Callable[[Collection[Source], Callable[[], object]], Recalled]:
    """Return what reads the alerts topic back, as far as what was told last bears on what comes."""

    def read_back(sources: Collection[Source], alive: Callable[[], object]) -> Recalled:
        now_s = time.time()
        # Now, because detectors get other versions while they work.
        lasts = [LASTS_S for entry in inputs if entry.presence is not None]
        for watch in (watch for entry in inputs for watch in entry.watches):
            rules = watch.detector.rules
            lasts += [rules.cooldown_s, expires_at(0.0, rules.keep_alive_s, watch.detector.interval_s)]
            if math.isfinite(rules.release_after_s):
                lasts.append(rules.release_after_s)
        if not lasts:
            return Recalled()
        polls = read_range(settings, [topic], now_s - max(lasts))
        return recall(polls, sources, now_s, alive)

    return read_back


def _input(
    config: Config,
    entry: InputConfig,
    metrics: Metrics,
    windows: Maintenance | None,
    file: Path,
    background: Background,
    resources: ExitStack,
) -> Input:
    """Return an input with a watch for each of its detectors, and what brings them other versions.

    Raises:
        BundleError: A detector has no bundle that it can use, or nowhere to write one.
    """
    metrics.input_added(entry.name, Reason)
    schema = input_schema(config, entry)
    watches: list[Watch] = []
    arrivals: list[Arrivals] = []
    for reader in config.detectors_of(entry.name):
        champion = StoredChampion(reader, entry.name, _columns(schema, reader), metrics, windows)
        bundle = None
        if reader.bootstrap is None or champion.version() is not None:
            bundle, watch = loaded = champion.load()
            champion.serves(loaded)
            watches.append(watch)
        if reader.bootstrap is None:
            version = None if bundle is None else bundle.manifest.version
            refused = metrics.version_refused
            arrivals.append(Following(reader.name, version, champion, refused, background.do))
        else:
            BundleStore(reader.store).check_writable(reader.name)
            start = partial(TrainingChild, file, reader.name)
            bootstrap = Bootstrap(
                reader.name, reader.bootstrap.records, bundle, champion, start, metrics, background.do
            )
            resources.callback(bootstrap.stop)
            arrivals.append(bootstrap)
    absence = entry.absence
    presence = None
    if absence is not None:
        readers = [reader.name for reader in config.detectors_of(entry.name)]
        excused = None if windows is None else partial(windows.excused_until, readers)
        presence = Presence(
            entry.name, absence.rules(), absence.entities, excused, forget_after_s=entry.forget_after_s
        )
    return Input(
        entry.name,
        entry.topics,
        JsonCodec(schema),
        watches,
        presence,
        Expiry(entry.forget_after_s),
        arrivals=arrivals,
    )


def _versions(inputs: Sequence[Input]) -> str:
    found = [f"{watch.name} (version {watch.version})" for entry in inputs for watch in entry.watches]
    return ", ".join(found) or "without a version yet"


def _columns(schema: InputSchema, detector: DetectorConfig) -> Sequence[int]:
    """Return where a detector's features are among the input's."""
    return [schema.features.index((feature.name, feature.field)) for feature in detector.features]
