"""Wiring: from a configuration to a running loop, and back down in reverse order."""

import gc
import logging
import math
import signal
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from types import FrameType

import numpy as np
from prometheus_client import CollectorRegistry

from detector import __version__
from detector.alerting.absence_event import LASTS_S
from detector.alerting.entity_patterns import EntityPatterns
from detector.alerting.event import expires_at
from detector.batch import Source
from detector.bootstrap.background import Background
from detector.bootstrap.bootstrap import Bootstrap
from detector.bootstrap.following import Following, Loaded
from detector.bootstrap.training_child import TrainingChild
from detector.bundles.serving import serve
from detector.bundles.store import CHAMPION, Bundle, BundleRejectedError, BundleStore
from detector.bundles.youth import records_missing, youth
from detector.config.detectors import DetectorConfig
from detector.config.inputs import InputConfig
from detector.config.maintenance import DAYS
from detector.config.root import Config
from detector.models.kinds import Kind
from detector.pipeline.detector import Detector
from detector.stream.answered import Outputs
from detector.stream.arrivals import Arrivals
from detector.stream.codec_json import InputSchema, JsonCodec
from detector.stream.control_topic import ControlTopic
from detector.stream.expiry import Expiry
from detector.stream.input import Input
from detector.stream.loop import Loop
from detector.stream.maintenance import Maintenance, Recurring, Selector, Window
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
from detector.stream.watchdog import STALLED_EXIT_CODE, Watchdog
from detector.web.detector_metrics import DetectorFacts
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
        SystemExit: The Kafka client is beyond repair; a supervisor may start a new process.
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
        server.start()

        if control is not None:
            resources.callback(control.stop)
            control.start()
        watchdog = Watchdog()
        loop = Loop(
            inputs,
            Outputs(
                config.outputs.scores_topic,
                config.outputs.alerts_topic,
                config.outputs.dead_letter_topic,
                config.kafka.group_id,
            ),
            partial(open_consumer, settings),
            partial(open_producer, settings),
            metrics,
            watchdog,
            overlap=settings.client == "confluent",
            windows_known=None if control is None else control.was_read,
            recall=_reader_back(settings, config.outputs.alerts_topic, inputs),
        )
        resources.enter_context(stopped_by_signals(loop.stop))
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
            _log.error("%s; ending with code %d", error, STALLED_EXIT_CODE)
            raise SystemExit(STALLED_EXIT_CODE) from error
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


def maintenance(
    config: Config, announced: Callable[[], Sequence[Window]] | None = None
) -> Maintenance | None:
    """Return all windows of maintenance, None where there can be none.

    Args:
        config: Whose calendar counts.
        announced: Returns the others that are known; None where nobody can announce any.
    """
    if not config.maintenance and announced is None:
        return None
    windows: list[Window] = []
    recurring: list[Recurring] = []
    for entry in config.maintenance:
        selector = Selector(
            None if entry.entities == ("*",) else EntityPatterns(entry.entities),
            frozenset(entry.detectors) or None,
        )
        if entry.every is None:
            windows.append(Window(selector, *entry.instants, entry.kind))
        else:
            days = frozenset(map(DAYS.index, entry.every))
            recurring.append(Recurring(selector, days, *entry.minutes, entry.zone, entry.kind))
    return Maintenance(windows, recurring, tuple if announced is None else announced)


def client_settings(config: Config) -> ClientSettings:
    """Return what the Kafka clients are told."""
    kafka, security = config.kafka, config.kafka.security
    return ClientSettings(
        client=kafka.client,
        bootstrap_servers=kafka.bootstrap_servers,
        group_id=kafka.group_id,
        instance_id=kafka.instance_id,
        start_from=kafka.start_from,
        session_timeout_s=kafka.session_timeout_s,
        compression=kafka.compression,
        security_protocol=security.protocol,
        sasl_mechanism=security.sasl_mechanism,
        sasl_username=security.username,
        sasl_password=None if security.password is None else security.password.get_secret_value(),
        ssl_cafile=_text(security.ca_file),
        ssl_certfile=_text(security.certificate_file),
        ssl_keyfile=_text(security.key_file),
    )


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)


def input_schema(config: Config, entry: InputConfig, detector: DetectorConfig | None = None) -> InputSchema:
    """Return how an input's records are read.

    Args:
        config: The whole configuration.
        entry: One of its inputs.
        detector: Read the features of this one alone, in its order; None: of all its detectors, each
            (name, field) once.
    """
    readers = config.detectors_of(entry.name) if detector is None else (detector,)
    features = dict.fromkeys(
        (feature.name, feature.field) for reader in readers for feature in reader.features
    )
    return InputSchema(
        name=entry.name,
        features=tuple(features),
        categorical=_fields(readers, "categorical"),
        binary=_fields(readers, "binary"),
        entity=entry.entity_paths,
        entity_separator=entry.entity_separator,
        time=entry.time_path,
        labels=entry.label_paths,
        features_field=entry.features_path,
        values_field=entry.values_path if config.values_allowed(entry.name) else None,
        max_record_bytes=entry.max_record_bytes,
        max_future_s=entry.max_future_s,
    )


def _fields(readers: Sequence[DetectorConfig], kind: Kind) -> frozenset[tuple[str, ...]]:
    """Return the fields that some detector reads as of a kind."""
    return frozenset(
        feature.field for reader in readers for feature in reader.features if feature.kind == kind
    )


def detector_of(detector: DetectorConfig, version: str) -> Detector:
    """Return a detector as ``run`` serves it, with any of its versions.

    Raises:
        BundleError: There is no such version, or this configuration cannot use it.
    """
    return _serve(detector, _load(detector, version))


def _load(detector: DetectorConfig, version: str) -> Bundle:
    bundle = BundleStore(detector.store).load(detector.name, version)
    trained = tuple(feature.name for feature in bundle.manifest.features)
    if trained != detector.feature_names:
        raise BundleRejectedError(
            f"detector {detector.name!r}: version {bundle.manifest.version} in {detector.store} was trained "
            f"on {', '.join(trained)}, but the configuration lists {', '.join(detector.feature_names)}; "
            "use the same features in the same order, or train it again"
        )
    for configured, known in zip(detector.features, bundle.manifest.features, strict=True):
        for what in ("kind", "type", "scale"):
            wanted, found = getattr(configured, what), getattr(known, what)
            if wanted != found:
                raise BundleRejectedError(
                    f"detector {detector.name!r}: feature {known.name!r} is {wanted} in the configuration, "
                    f"but version {bundle.manifest.version} in {detector.store} was trained on it as "
                    f"{found}; write that {what}, or train it again"
                )
    return bundle


def _serve(detector: DetectorConfig, bundle: Bundle) -> Detector:
    try:
        return serve(
            bundle,
            detector.alerting.rules(),
            min_features_share=detector.min_features,
            feature_rules=[feature.rule() for feature in detector.features],
            overrides=detector.alerting.entity_overrides(),
        )
    except ValueError as error:
        raise BundleRejectedError(
            f"detector {detector.name!r}: version {bundle.manifest.version} in {detector.store} cannot be "
            f"used: {error}; train it again"
        ) from error


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
        BundleError: A detector has no bundle that it can use.
    """
    metrics.input_added(entry.name, Reason)
    schema = input_schema(config, entry)
    watches: list[Watch] = []
    arrivals: list[Arrivals] = []
    for reader in config.detectors_of(entry.name):
        champion = _Champion(reader, entry.name, _columns(schema, reader), metrics, windows)
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


class _Champion:
    """The version of a detector that alerts, as its store says at the time."""

    def __init__(
        self,
        detector: DetectorConfig,
        input_name: str,
        columns: Sequence[int],
        metrics: Metrics,
        maintenance: Maintenance | None,
    ) -> None:
        self._config = detector
        self._input = input_name
        self._columns = np.array(columns, dtype=np.int64)
        self._metrics = metrics
        self._maintenance = maintenance

    def version(self) -> str | None:
        """Return which version it is, None where there is none."""
        return BundleStore(self._config.store).alias(self._config.name)

    def load(self, version: str = f"@{CHAMPION}") -> Loaded:
        """Return a version, and a watch that scores with it.

        Raises:
            BundleError: It cannot be used.
        """
        bundle = _load(self._config, version)
        detector = _serve(self._config, bundle)
        return bundle, Watch(detector, self._input, self._columns, self._maintenance)

    def serves(self, loaded: Loaded) -> None:
        """Export what is known of a version that scores from now on."""
        bundle, watch = loaded
        detector = watch.detector
        self._metrics.detector_loaded(_facts(bundle, detector))
        young = youth(bundle)
        if young is not None:
            _log.info("detector %s: version %s is %s", detector.name, detector.version, young)


def _columns(schema: InputSchema, detector: DetectorConfig) -> Sequence[int]:
    """Return where a detector's features are among the input's."""
    return [schema.features.index((feature.name, feature.field)) for feature in detector.features]


def _facts(bundle: Bundle, detector: Detector) -> DetectorFacts:
    manifest = bundle.manifest
    return DetectorFacts(
        name=detector.name,
        family=manifest.family,
        predictor=manifest.predictor,
        version=detector.version,
        role=detector.role,
        trained_time_s=manifest.created_time_s,
        interval_s=detector.interval_s,
        threshold=detector.threshold,
        young_records_missing=records_missing(bundle),
    )


@contextmanager
def stopped_by_signals(stop: Callable[[], None]) -> Iterator[None]:
    """Let SIGTERM and SIGINT call ``stop``, and SIGHUP nothing; the handlers of before come back."""

    def handle(_number: int, _frame: FrameType | None) -> None:
        stop()

    def explain(_number: int, _frame: FrameType | None) -> None:
        _log.warning("SIGHUP changes nothing: the configuration is read at the start; restart to apply it")

    handlers = {signal.SIGTERM: handle, signal.SIGINT: handle, signal.SIGHUP: explain}
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
