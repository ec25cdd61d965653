"""Tests for detector.alerting.vanished."""

import numpy as np

from detector.alerting.vanished import after_records, vanished
from detector.batch import BoolArray


def by_hand(share: float, run: int, present: list[bool]) -> tuple[float, int]:
    for came in present:
        if came:
            # What was missing counts only now that the run is over.
            for _ in range(run):
                share *= 63 / 64
            share, run = share * 63 / 64 + 1 / 64, 0
        else:
            run += 1
    return share, run


def test_agrees_with_looking_at_one_record_after_the_other() -> None:
    rng = np.random.default_rng(0)
    for often in (0.0, 0.5, 0.9, 1.0):
        for _ in range(20):
            lengths = rng.integers(1, 8, rng.integers(1, 5))
            present: BoolArray = rng.uniform(size=(int(lengths.sum()), 3)) < often
            share, run = rng.uniform(size=(len(lengths), 3)), rng.integers(0, 4, (len(lengths), 3))
            found = after_records(share, run, present, lengths)
            ends = np.cumsum(lengths)
            for e, end in enumerate(ends.tolist()):
                for j in range(3):
                    own = present[end - lengths[e] : end, j].tolist()
                    expected, left = by_hand(float(share[e, j]), int(run[e, j]), own)
                    assert np.isclose(found.share[e, j], expected)
                    assert found.run[e, j] == left
                    began = end - left if 0 < left <= len(own) and (any(own) or run[e, j] == 0) else -1
                    assert found.began[e, j] == began


def test_feature_that_always_came_is_missed_soon_and_a_sparse_one_late_or_never() -> None:
    shares = np.array([0.0, 0.3, 0.5, 0.8, 0.9, 0.99, 1.0])
    first = [next((r for r in range(1, 200) if vanished(np.array(s), np.array(r))), None) for s in shares]
    assert first == [None, 57, 29, 13, 9, 5, 5]
