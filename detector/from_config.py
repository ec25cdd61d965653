"""What a configuration means to the parts that know nothing of it: clients, codecs, calendars, detectors."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

from detector.alerting.entity_patterns import EntityPatterns
from detector.bundles.manifest import Manifest
from detector.bundles.serving import serve
from detector.bundles.store import Bundle, BundleRejectedError, BundleStore
from detector.config.detectors import DetectorConfig
from detector.config.inputs import InputConfig
from detector.config.maintenance import DAYS
from detector.config.root import Config
from detector.models.kinds import Kind
from detector.pipeline.detector import Detector
from detector.stream.codec_json import InputSchema
from detector.stream.maintenance import Maintenance, Recurring, Selector, Window
from detector.stream.port import ClientSettings

_OF_THE_RECORDS = (
    "files",
    "from_time",
    "until_time",
    "anomaly_field",
    "regime_field",
    "max_records",
    "seed",
    "jobs",
)
_NOT_SET = "not set"


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


def detector_of(detector: DetectorConfig, version: str) -> Detector:
    """Return a detector as ``run`` serves it, with any of its versions.

    Raises:
        BundleError: There is no such version, or this configuration cannot use it.
    """
    return served(detector, load_version(detector, version))


def load_version(detector: DetectorConfig, version: str) -> Bundle:
    """Read one of a detector's versions, or the one that ``@alias`` names.

    Raises:
        BundleError: There is none, or it was trained on other features than are configured.
    """
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


def training_settings(detector: DetectorConfig) -> dict[str, str]:
    """Return by key what a configuration says of the model, heeded by training alone, but for defaults."""
    dumped = detector.model_dump(mode="json", exclude_defaults=True)
    training = dumped.get("training", {})
    given = {key: dumped.get(key) for key in ("family", "predictor", "time_zone", "members")}
    given |= {f"training.{key}": value for key, value in training.items() if key not in _OF_THE_RECORDS}
    for feature in detector.features:
        given[f"features.{feature.name}.field"] = ".".join(feature.field)
        given[f"features.{feature.name}.unit"] = feature.unit
    return {
        key: value if isinstance(value, str) else json.dumps(value, sort_keys=True)
        for key, value in given.items()
        if value is not None
    }


def other_settings(detector: DetectorConfig, manifest: Manifest) -> str | None:
    """Return what to tell people of a version trained by other settings than are configured, else None."""
    if manifest.configured is None:
        return None
    trained, wanted = manifest.configured, training_settings(detector)
    differing = [
        f"{key} is {wanted.get(key, _NOT_SET)} and was {trained.get(key, _NOT_SET)}"
        for key in dict.fromkeys([*trained, *wanted])
        if trained.get(key) != wanted.get(key)
    ]
    if not differing:
        return None
    return (
        f"detector {detector.name!r}: version {manifest.version} was trained by other settings than are "
        f"configured, and goes by its own until you train again: {'; '.join(differing)}"
    )


def served(detector: DetectorConfig, bundle: Bundle) -> Detector:
    """Return the detector that scores with a version and alerts as is configured.

    Raises:
        BundleRejectedError: The version holds no held-out time.
    """
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
