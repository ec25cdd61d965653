"""The champion of a detector in its store, loaded and served as the configuration says."""

import logging
from collections.abc import Sequence

import numpy as np

from detector.bootstrap.following import Loaded
from detector.bundles.store import CHAMPION, Bundle, BundleStore
from detector.bundles.youth import records_missing, youth
from detector.config.detectors import DetectorConfig
from detector.from_config import load_version, other_settings, served
from detector.pipeline.detector import Detector
from detector.stream.maintenance import Maintenance
from detector.stream.watch import Watch
from detector.web.detector_metrics import DetectorFacts
from detector.web.metrics import Metrics

_log = logging.getLogger(__name__)


class StoredChampion:
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

    def check(self) -> None:
        """Look whether it is still there, without reading it.

        Raises:
            BundleError: There is none, or its files cannot be opened.
        """
        BundleStore(self._config.store).check_there(self._config.name, f"@{CHAMPION}")

    def load(self, version: str = f"@{CHAMPION}") -> Loaded:
        """Return a version, and a watch that scores with it.

        Raises:
            BundleError: It cannot be used.
        """
        bundle = load_version(self._config, version)
        detector = served(self._config, bundle)
        return bundle, Watch(detector, self._input, self._columns, self._maintenance)

    def serves(self, loaded: Loaded) -> None:
        """Export what is known of a version that scores from now on."""
        bundle, watch = loaded
        detector = watch.detector
        self._metrics.detector_loaded(_facts(bundle, detector))
        others = other_settings(self._config, bundle.manifest)
        if others is not None:
            _log.warning(others)
        young = youth(bundle)
        if young is not None:
            _log.info("detector %s: version %s is %s", detector.name, detector.version, young)


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
