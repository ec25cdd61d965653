"""Tests for detector.alerting.echo: what settles after an incident is not news, and what is louder is."""

import numpy as np
import pytest

from detector.alerting.echo import HALF_LIFE_RECORDS, no_echo, with_echo
from detector.batch import FloatArray

THRESHOLD = 6.0
RNG = np.random.default_rng(3)


def raised(nats: FloatArray, sizes: list[int] | None = None) -> FloatArray:
    """Return the thresholds of one entity's rows, in batches of these sizes."""
    state, found, seen = no_echo(1), [], 0
    for size in sizes or [len(nats)]:
        part = nats[seen : seen + size]
        records = np.arange(seen, seen + size)
        state, threshold = with_echo(state, part, THRESHOLD, records, np.array([size]))
        found.append(np.broadcast_to(threshold, part.shape))
        seen += size
    return np.concatenate(found)


def by_hand(nats: FloatArray) -> FloatArray:
    found, peak = np.empty(len(nats)), 0.0
    for i, value in enumerate(nats):
        found[i] = max(THRESHOLD, peak)
        peak = max(peak, value) * 2 ** (-1 / HALF_LIFE_RECORDS)
    return found


def test_threshold_follows_the_decaying_peak() -> None:
    nats = RNG.exponential(2.0, 2000)
    nats[[100, 130, 900]] = 40.0, 200.0, 30.0
    np.testing.assert_allclose(raised(nats), by_hand(nats), rtol=1e-9)


def test_quiet_traffic_keeps_its_threshold() -> None:
    assert (raised(np.full(50, THRESHOLD)) == THRESHOLD).all()


def test_a_steady_incident_stays_suspicious_and_its_tail_does_not() -> None:
    nats = np.concatenate([np.full(300, 50.0), 30.0 * 0.9 ** np.arange(30)])
    threshold = raised(nats)
    assert (nats >= threshold)[:300].all()
    assert not (nats >= threshold)[300:].any()


@pytest.mark.parametrize("size", [1, 7])
def test_batching_changes_no_bit(size: int) -> None:
    nats = RNG.exponential(4.0, 7 * 40)
    np.testing.assert_array_equal(raised(nats), raised(nats, [size] * (len(nats) // size)))


def test_entities_do_not_hear_one_another() -> None:
    lengths = np.array([30, 1, 50])
    nats = RNG.exponential(5.0, lengths.sum())
    records = np.concatenate([np.arange(n) for n in lengths])
    _, together = with_echo(no_echo(3), nats, np.full(len(nats), THRESHOLD), records, lengths)
    alone = [raised(part) for part in np.split(nats, np.cumsum(lengths)[:-1])]
    np.testing.assert_array_equal(together, np.concatenate(alone))
