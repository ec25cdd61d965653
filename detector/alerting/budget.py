"""The p-value threshold that keeps a budget: episodes are counted by deciding over held-out time."""

from dataclasses import dataclass

import numpy as np

from detector.alerting.episodes import count_episodes
from detector.alerting.rules import AlertRules
from detector.batch import FloatArray, IntArray

# Fewer episodes than this say nothing about a rate.
_FEWEST_EPISODES = 5.0
# A rate known from few episodes is mostly luck: the threshold is found where so many of them are counted, and
# goes from there to where fewer are borne.
_COUNTED_EPISODES = 20.0
# A budget is a ceiling, so the aim is the number of episodes that makes nine in ten sure of it: that many
# standard deviations below, of twice their variance, since what was counted in held-out time was by chance as
# well as what will come. Next week's traffic is not the held-out week's, so a rest is always left.
_LOWEST_AIM, _HIGHEST_AIM, _DEVIATIONS = 0.5, 0.9, 1.28 * np.sqrt(2.0)
_HIGHEST_THRESHOLD = 0.2
_LOWEST_THRESHOLD = 1e-12
# Faster records say nearly the same, and are suspicious together.
_SHORTEST_INTERVAL_S = 60.0
# What normal traffic does more often than this is no news, however large the budget.
_HIGHEST_WHILE_LEARNING = 0.002
_AIM_WHILE_LEARNING = 0.55
_STEPS = 40
_WHOLE = (0.01, 0.99)


@dataclass(frozen=True, slots=True)
class HeldOut:
    """p-values of normal traffic in contiguous time: N records of E entities, entity after entity."""

    p_value: FloatArray
    """Shape (N,)."""
    lengths: IntArray
    """Records of each entity, shape (E,)."""
    span_s: FloatArray
    """Event time that each entity's records cover, shape (E,), seconds."""
    time: FloatArray
    """Of each record, shape (N,), seconds."""


@dataclass(frozen=True, slots=True)
class Threshold:
    """Where suspicion starts, and what it rests on."""

    p_value: float
    """A record with a p-value at most this is suspicious; in (0, 1)."""
    budget_rate: float
    """Episodes of normal traffic that the operator bears, per entity and second."""
    aimed_rate: float
    """Episodes of normal traffic that are to be expected at this threshold, per entity and second."""
    smallest_rate: float
    """The smallest budget that the held-out time supports, episodes per entity and second."""

    @property
    def supported(self) -> bool:
        """Whether the held-out time is long enough to have counted the budget, not extrapolated it."""
        return self.budget_rate >= self.smallest_rate


def threshold_for(held_out: HeldOut, rules: AlertRules, entities: float) -> Threshold:
    """Find the largest threshold at which held-out traffic leaves nine in ten sure of the budget.

    Where that is fewer episodes than tell a rate, the rate is taken to fall no slower than the threshold
    does from where more of them are counted, which errs towards silence.

    Args:
        held_out: Normal traffic that did not fit the model.
        rules: The budget, and when an episode starts and ends.
        entities: How many entities at once share a budget per fleet, at least 1.

    Raises:
        ValueError: There is no held-out time.
    """
    total_s = float(held_out.span_s.sum())
    if held_out.p_value.size == 0 or not total_s > 0:
        raise ValueError(
            f"{held_out.p_value.size} held-out records cover {total_s} s; a budget needs held-out time: "
            "train with more records, and with a time column that advances"
        )
    rate = rules.budget.episodes_per_entity_s(entities)
    aimed_rate = aim(rate * total_s) * rate
    bearable = aimed_rate * total_s
    counted = max(bearable, _COUNTED_EPISODES)
    log_p = np.log(held_out.p_value)

    def episodes(log_threshold: float) -> int:
        return count_episodes(log_p / log_threshold, held_out.time, held_out.lengths, rules)

    low, high = np.log(_LOWEST_THRESHOLD), np.log(_HIGHEST_THRESHOLD)
    if episodes(high) <= counted:
        low = high
    else:
        for _ in range(_STEPS):
            middle = (low + high) / 2
            low, high = (middle, high) if episodes(middle) <= counted else (low, middle)
    p_value = float(np.exp(low)) * min(bearable / counted, 1.0)
    return Threshold(p_value, rate, aimed_rate, smallest_rate(held_out))


def aim(borne: float) -> float:
    """Return the share of the budget to aim at: the more episodes can be counted, the more of it.

    The share a solves ``a + z sqrt(2 a / borne) = 1``: a Poisson number, and z standard deviations of the
    difference of two such numbers, are what is borne. No less than half is aimed at, and no more than nine
    tenths.

    Args:
        borne: Episodes that the budget allows in held-out time, > 0.
    """
    half = _DEVIATIONS / (2.0 * np.sqrt(borne))
    share = (np.sqrt(half**2 + 1.0) - half) ** 2
    return float(np.clip(share, _LOWEST_AIM, _HIGHEST_AIM))


def threshold_while_learning(
    held_out: HeldOut, rules: AlertRules, entities: float, interval_s: float
) -> Threshold:
    """Return the threshold of p-values that follow the traffic: held-out ones say little of them.

    Every suspicious record is taken for an episode of its own, which errs towards silence, and since nothing
    was counted little more than half of the budget is aimed at.

    Args:
        held_out: Normal traffic that did not fit the model.
        rules: The budget.
        entities: How many entities at once share a budget per fleet, at least 1.
        interval_s: Usual time between two records of an entity.
    """
    rate = rules.budget.episodes_per_entity_s(entities)
    apart_s = max(interval_s, _SHORTEST_INTERVAL_S)
    aimed_rate = min(_AIM_WHILE_LEARNING * rate, _HIGHEST_WHILE_LEARNING / apart_s)
    p_value = max(aimed_rate * apart_s, _LOWEST_THRESHOLD)
    return Threshold(p_value, rate, aimed_rate, smallest_rate(held_out))


def entities_at_once(entity: IntArray, time: FloatArray) -> float:
    """Return how many entities there are at a time, on average: each from its first record to its last.

    The first and the last hundredth of the records count for nothing, so that neither entities that do not
    begin with the same second nor a wrong clock make a difference.

    Args:
        entity: Of each record, shape (N,), 0 to E - 1.
        time: Seconds, shape (N,).

    Returns:
        At least 1; where time does not advance, E.
    """
    begin, end = np.quantile(time, _WHOLE)
    first, last = np.full(entity.max() + 1, np.inf), np.full(entity.max() + 1, -np.inf)
    np.minimum.at(first, entity, time)
    np.maximum.at(last, entity, time)
    if not end > begin:
        return float(first.size)
    alive_s = np.clip(last, begin, end) - np.clip(first, begin, end)
    return max(float(alive_s.sum() / (end - begin)), 1.0)


def smallest_rate(held_out: HeldOut) -> float:
    """Return the smallest budget that held-out time supports, per entity and second; inf without any."""
    total_s = float(held_out.span_s.sum())
    return _FEWEST_EPISODES / total_s if total_s > 0 else np.inf
