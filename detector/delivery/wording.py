"""An alert in plain words, for somebody who was woken by it."""

import shlex
from collections.abc import Sequence
from datetime import UTC

from detector.alerting import event
from detector.delivery.alert import ABSENCES, Alert, Frequency, Reason, Stuck

_REASONS_TOLD = 3
_REMARKABLE_NATS = 2.0
_REMARKABLE_SHARE = 0.1
_MEMBERS_TOLD = 3
_MEMBERS_DESCRIBED = 20
_DAY_S = 86_400.0
_TIMES = (("day", _DAY_S), ("hour", 3_600.0), ("minute", 60.0), ("second", 1.0))


def firing_summary(alert: Alert) -> str:
    """Say what is wrong: ``web-17: cpu 0.97, expected 0.31 ± 0.06 (12.4 nats)``; at most three features."""
    if alert.kind == "incident":
        return _incident_summary(alert)
    if alert.kind in ABSENCES:
        return _absence_summary(alert)
    present = [r for r in alert.reasons if r.actual is not None or r.frequency is not None]
    told = [_reason(reason) for reason in remarkable(present, alert.side)][:_REASONS_TOLD]
    if alert.side == "too_likely":
        start = f"{alert.entity}: more typical than normal traffic ever is"
        return f"{start}: {'; '.join(told)}" if told else start
    if told:
        return f"{alert.entity}: {'; '.join(told)}"
    return f"{alert.entity}: improbable under detector {alert.detector}"


def resolved_summary(alert: Alert) -> str:
    """Say that it is over: ``web-17: no longer unusual after 12 minutes``."""
    lasted_s = (alert.time - alert.start).total_seconds()
    if alert.kind in ABSENCES:
        return _return_summary(alert, lasted_s)
    lasted = duration_text(lasted_s)
    if alert.resolved_because == "new_normal":
        return f"{subject(alert)}: still unusual after {lasted}, taken to be normal from now on"
    if alert.resolved_because == "muted":
        return f"{subject(alert)}: muted after {lasted}, so no alert any more"
    if alert.resolved_because == "maintenance":
        return f"{subject(alert)}: in maintenance after {lasted}, so no alert any more"
    return f"{subject(alert)}: no longer unusual after {lasted}"


def expired_summary(alert: Alert, silent_s: float) -> str:
    """Say that nothing was heard of it for so long."""
    return (
        f"{subject(alert)}: no news for {duration_text(silent_s)}, taken to be over; "
        f"does {f'detector {alert.detector}' if alert.detector else 'the detector'} still run?"
    )


def description(alert: Alert) -> str:
    """Say what else is known, in whole sentences."""
    if alert.kind in ABSENCES:
        return " ".join([f"Input {alert.input}.", *(_members(alert) if alert.entities > 1 else [])])
    told = [f"Detector {alert.detector}{f', version {alert.version}' if alert.version else ''}."]
    if alert.kind == "incident":
        return " ".join([*told, *_incident_description(alert)])
    if alert.return_period:
        told.append(f"At its peak {alert.return_period}.")
    if alert.member:
        told.append(f"Most improbable to {alert.member}.")
    if alert.regime is not None and alert.regime.text:
        told.append(f"The entity: {alert.regime.text}.")
    if alert.records > 0:
        told.append(f"{records_text(alert.records)} since it began.")
    if alert.reopened > 0:
        told.append(f"It had resolved {times_text(alert.reopened)} before, not long ago.")
    return " ".join(told)


def remarkable(reasons: Sequence[Reason], side: str) -> list[Reason]:
    """Return the first reason, and the others that would be worth telling of without it.

    These are stuck, out of their valid range, or surprise by two nats and by a tenth of what the first does.

    Args:
        reasons: Of an alert, in its order.
        side: Of its peak; if it was too likely, no reason is more surprising than usual.
    """
    if side == "too_likely":
        return list(reasons)
    first_nats = reasons[0].nats if reasons else None
    least = max(_REMARKABLE_NATS, _REMARKABLE_SHARE * (first_nats or 0.0))
    return [
        reason
        for i, reason in enumerate(reasons)
        if i == 0
        or reason.valid_range is not None
        or reason.stuck is not None
        or reason.nats is None
        or reason.nats >= least
    ]


def records_text(count: int) -> str:
    """Return ``1 record``, ``5 records``."""
    return f"{count} record{'' if count == 1 else 's'}"


def times_text(count: int) -> str:
    """Return ``once``, ``5 times``."""
    return "once" if count == 1 else f"{count} times"


def explain_command(alert: Alert) -> str:
    """Return what to type to hear more: replicas say the same, so it names no file of theirs."""
    return f"detector explain CONFIG {shlex.quote(alert.alert_id)}"


def subject(alert: Alert) -> str:
    """Say what it is about: ``web-17``, or ``312 entities of detector hosts``."""
    if alert.kind in ABSENCES and alert.entities > 1:
        how_many = "all" if alert.entities == alert.alive else f"{alert.entities} of"
        return f"{how_many} {alert.alive} entities of input {alert.input}"
    if alert.kind != "incident":
        return alert.entity
    return f"{alert.entities} entities of detector {alert.detector}"


def _incident_summary(alert: Alert) -> str:
    feature = f"; mostly {alert.features[0].feature}" if alert.features else ""
    return f"{subject(alert)} at once: {_listed(alert, _MEMBERS_TOLD)}{feature}"


def _incident_description(alert: Alert) -> list[str]:
    told = []
    if alert.features:
        features = ", ".join(f"{shared.feature} in {shared.entities}" for shared in alert.features)
        told.append(f"What surprised most: {features}.")
    return told + _members(alert)


def _members(alert: Alert) -> list[str]:
    return [f"Members: {_listed(alert, _MEMBERS_DESCRIBED)}."]


def _listed(alert: Alert, most: int) -> str:
    names = [member.entity for member in alert.members[:most]]
    more = alert.entities - len(names)
    return ", ".join(names) + (f" and {more} more" if more > 0 else "")


def _absence_summary(alert: Alert) -> str:
    # Of all, names say no more.
    some = 1 < alert.entities < alert.alive
    who = f"{subject(alert)} ({_listed(alert, _MEMBERS_TOLD)})" if some else subject(alert)
    if alert.features:
        return f"{who}: no {_features(alert)} any more"
    silent = f"nothing for {duration_text((alert.time - alert.start).total_seconds())}"
    usual_s = alert.usual_interval_s
    usual = "" if usual_s is None else f", usually one record in {duration_text(usual_s)}"
    return f"{who}: {silent}{usual}"


def _return_summary(alert: Alert, lasted_s: float) -> str:
    if alert.resolved_because == "expired":
        return f"{subject(alert)}: gone for {duration_text(lasted_s)}, no longer missed"
    back = f"{_features(alert)} is there" if alert.features else "records come"
    return f"{subject(alert)}: {back} again after {duration_text(lasted_s)}"


def _features(alert: Alert) -> str:
    return ", ".join(shared.feature for shared in alert.features)


def duration_text(seconds: float) -> str:
    """Return a duration in one unit: ``90 seconds``, ``12 minutes``, ``1 day``."""
    unit, length = next((u, s) for u, s in _TIMES if seconds >= 2 * s or seconds == s or s == 1)
    count = round(seconds / length)
    return f"{count} {unit}{'' if count == 1 else 's'}"


def stuck_text(reason: Reason, stuck: Stuck) -> str:
    """Say what stays: ``load has been 3.2 s since 02:10 UTC, for 41 minutes (stuck_after is 30 minutes)``."""
    since = f"{stuck.since.astimezone(UTC):{'%H:%M' if stuck.for_s < _DAY_S else '%Y-%m-%d %H:%M'}} UTC"
    return (
        f"{reason.feature} has been {_value(reason.actual)}{_unit(reason)} since {since}, for "
        f"{duration_text(stuck.for_s)} (stuck_after is {duration_text(stuck.after_s)})"
    )


def frequency_texts(often: Frequency | event.Frequency) -> tuple[str, str]:
    """Say how often a value came of late, and usually does: ``'503' in 27 %``, ``1.1 %``."""
    if often.of == "mean":
        return f"{often.actual:.3g} in the mean", f"{often.expected:.3g}"
    what = "uncommon texts" if often.value is None else _value(often.value)
    share = "under 1 %" if often.actual < 0.01 else f"{100 * often.actual:.3g} %"
    return f"{what} in {share}", f"{100 * often.expected:.2g} %"


def frequency_text(reason: Reason, often: Frequency) -> str:
    """Say what came how often: ``status '503' in 27 % of 20 records, usually 1.1 % (14.2 nats)``."""
    actual, usual = frequency_texts(often)
    nats = "" if reason.nats is None else f" ({reason.nats:.1f} nats)"
    unit, now = _unit(reason) if often.of == "mean" else "", ""
    if often.value is None and reason.actual is not None:
        now = f", now {_value(reason.actual)}{unit}"
    return f"{reason.feature} {actual} of {records_text(often.records)}{now}, usually {usual}{unit}{nats}"


def _reason(reason: Reason) -> str:
    unit = _unit(reason)
    if reason.stuck is not None:
        told = stuck_text(reason, reason.stuck)
    elif reason.frequency is not None and reason.valid_range is None:
        told = frequency_text(reason, reason.frequency)
    else:
        told = _deviation(reason)
    return told if reason.valid_range is None else f"{told}, {_outside(reason.valid_range, unit)}"


def _deviation(reason: Reason) -> str:
    nats = "" if reason.nats is None else f" ({reason.nats:.1f} nats)"
    unit = _unit(reason)
    spread = "" if reason.std is None else f" ± {_value(reason.std)}"
    expected = "something else" if reason.expected is None else f"{_value(reason.expected)}{spread}{unit}"
    return f"{reason.feature} {_value(reason.actual)}{unit}, expected {expected}{nats}"


def _unit(reason: Reason) -> str:
    return "" if reason.unit in (None, "", "1") else f" {reason.unit}"


def _outside(valid_range: tuple[float | None, float | None], unit: str) -> str:
    low, high = valid_range
    if low is None:
        return f"valid up to {_value(high)}{unit}"
    return f"valid from {_value(low)}{unit}" + ("" if high is None else f" to {_value(high)}{unit}")


def _value(value: float | str | None) -> str:
    return f"{value:.4g}" if isinstance(value, float) else f"{value!r}"
