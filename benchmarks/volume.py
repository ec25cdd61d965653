"""VUS-PR, the volume under the surface of precision and recall, as TSB-AD computes it."""

import numpy as np

from detector.batch import BoolArray, FloatArray

PACKAGE = "TSB_AD"
"""``pip install --no-deps TSB-AD==1.5``: of its dependencies numpy and scikit-learn are enough."""
_WINDOW = 100
"""Records; of every width up to this, borders of events are soft."""
_THRESHOLDS = 250


def volume_under_surface(anomaly: FloatArray, labels: BoolArray) -> float:
    """Return VUS-PR over soft borders of up to 100 records.

    Args:
        anomaly: Shape (N,), high is anomalous; only the order counts.
        labels: Shape (N,), both kinds present.

    Raises:
        ModuleNotFoundError: TSB-AD is not installed.

    References:
        Paparrizos et al. (VLDB 2022), Volume under the surface: a new accuracy evaluation measure.
    """
    from TSB_AD.evaluation.basic_metrics import generate_curve

    rank = np.unique(anomaly, return_inverse=True)[1].astype(np.float64)
    return float(generate_curve(labels.astype(np.int64), rank, _WINDOW, "opt", _THRESHOLDS)[-1])
