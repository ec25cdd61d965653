"""A histogram that takes a whole column at once: Prometheus's own takes one value per call."""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from prometheus_client.core import HistogramMetricFamily
from prometheus_client.registry import Collector

from detector.batch import FloatArray, IntArray


class ColumnHistogram(Collector):
    """Counts per bucket and label value. Not locked: the collector that owns it is."""

    def __init__(self, name: str, documentation: str, label: str, bounds: Sequence[float]) -> None:
        """Declare it.

        Args:
            name: Of the metric.
            documentation: Its help text.
            label: Name of its one label.
            bounds: Upper bounds of the buckets, ascending, without infinity.
        """
        self._name, self._documentation, self._label = name, documentation, label
        self._bounds = np.asarray(bounds, dtype=np.float64)
        self._bound_texts = [*(f"{bound:g}" for bound in bounds), "+Inf"]
        self._counts: dict[str, IntArray] = {}
        self._sums: dict[str, float] = {}

    def observe(self, label_value: str, values: FloatArray) -> None:
        """Add values, shape (N,), none of them NaN."""
        # A value on a bound belongs to that bucket: "le" means less or equal.
        buckets = np.searchsorted(self._bounds, values, side="left")
        counts = np.bincount(buckets, minlength=len(self._bounds) + 1)
        if label_value in self._counts:
            self._counts[label_value] += counts
            self._sums[label_value] += float(values.sum())
        else:
            self._counts[label_value] = counts
            self._sums[label_value] = float(values.sum())

    def collect(self) -> Iterator[HistogramMetricFamily]:
        """Yield the metric family."""
        family = self._family()
        for label_value, counts in self._counts.items():
            cumulative = zip(self._bound_texts, np.cumsum(counts).tolist(), strict=True)
            family.add_metric([label_value], list(cumulative), self._sums[label_value])
        yield family

    def describe(self) -> Iterable[HistogramMetricFamily]:
        """Return the family without samples, for the registry."""
        return [self._family()]

    def _family(self) -> HistogramMetricFamily:
        return HistogramMetricFamily(self._name, self._documentation, labels=[self._label])
