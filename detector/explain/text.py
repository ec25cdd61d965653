"""An explanation for a terminal, and as data."""

import math
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from detector.alerting.absence_event import MANY_ENTITIES
from detector.alerting.event import FeatureReason
from detector.delivery.alert import ABSENCES, Reason
from detector.delivery.wording import (
    duration_text,
    firing_summary,
    frequency_text,
    frequency_texts,
    records_text,
    remarkable,
    resolved_summary,
    stuck_text,
    subject,
    times_text,
)
from detector.explain.alerts import Episode
from detector.explain.changes import Change
from detector.explain.explanation import Explanation, part_of
from detector.explain.replay import Moment
from detector.explain.times import plain_time_text, time_text

_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f]")

_RECORD_WIDTH = 40
_FEATURE_WIDTH = 40
"""About so many characters: fewer features are shown on a narrow terminal."""

_NO_CHANGES = (
    "In the day before, no version, deploy or maintenance began, and the configuration was not written"
)

BAND_STDS = 2.0
"""The expected band is so many standard deviations to either side."""


def print_explanation(found: Explanation, console: Console) -> None:
    """Print everything that is known."""
    for name, text in facts(found):
        console.print(_shown(f"{name:<13}{text}"), soft_wrap=True)
    if found.moments:
        console.print()
        console.print(_records(found, console.width))
    for note in found.notes:
        console.print(_shown(note), style="dim", soft_wrap=True)
    console.print()
    console.print(_shown(others_title(found)), style="bold")
    for other in found.others:
        console.print(_shown(f"  {other_text(other)}"), soft_wrap=True)
    if found.others_left_out:
        console.print(f"  and {found.others_left_out} more")
    console.print()
    for title, changes in changes_told(found):
        console.print(_shown(title), style="bold")
        for change in changes:
            console.print(_shown(f"  {change_text(change)}"), soft_wrap=True)


def facts(found: Explanation) -> Iterator[tuple[str, str]]:
    """Yield name and text of what the events say."""
    alert, firing = found.alert, found.firing
    yield "alert", alert.alert_id
    yield "entity", alert.entity or subject(alert)
    if not firing.reasons:
        yield "what", firing_summary(firing)
    yield "state", _state(found)
    if alert.detector:
        after = "" if found.taken_over_by is None else f"; {found.taken_over_by} took over while it was open"
        yield "detector", f"{alert.detector}, version {firing.version}, as {alert.role}{after}"
    else:
        yield "input", alert.input
    yield "severity", alert.severity
    begun = time_text(firing.start.timestamp())
    again = f", and again {times_text(alert.reopened)} after it had resolved" if alert.reopened else ""
    yield "began", f"{begun}; fired {time_text(firing.time.timestamp())}{again}"
    if found.peak_s is not None and alert.p_value is not None and alert.anomaly_score is not None:
        side = "" if alert.side == "unlikely" else ", for being more typical than normal traffic ever is"
        yield (
            "peak",
            f"{time_text(found.peak_s)}, p-value {alert.p_value:.2g}, anomaly score "
            f"{alert.anomaly_score:.3g}{side}",
        )
    if alert.return_period:
        yield "how rare", alert.return_period
    if alert.member:
        yield "member", alert.member
    if firing.regime is not None and firing.regime.text:
        yield "regime", firing.regime.text
    if alert.records:
        yield "so far", records_text(alert.records)
    for reason in remarkable(firing.reasons, firing.side):
        yield "because", _reason(reason)
    for reason in remarkable(alert.reasons, alert.side) if alert.reasons != firing.reasons else ():
        # Of a record that was far more improbable than the one that fired, or that had another cause.
        yield "later", _reason(reason)
    for member in alert.members:
        feature = f", {member.feature}" if member.feature else ""
        score = "" if member.anomaly_score is None else f", anomaly score {member.anomaly_score:.3g}"
        over = ", over" if member.firing is False else ""
        known = f": alert {member.alert_id}" if member.alert_id else ""
        yield "member", f"{member.entity}{feature}{score}{over}{known}"
    if alert.members_left_out:
        yield "member", f"and {alert.members_left_out} more"
    incident = alert.incident_id or firing.incident_id
    if incident is not None:
        yield "incident", f"{incident}, which 'detector explain' explains too"
    for name, text in sorted(alert.labels.items()):
        yield "label", f"{name}={text}"


def _reason(reason: Reason) -> str:
    if reason.stuck is not None:
        return stuck_text(reason, reason.stuck)
    if reason.frequency is not None and reason.valid_range is None:
        return frequency_text(reason, reason.frequency)
    unit = f" {reason.unit}" if reason.unit else ""
    band = "something else" if reason.expected is None else _band(reason.expected, reason.std)
    nats = "" if reason.nats is None else f", {reason.nats:.1f} nats"
    return f"{reason.feature} {_value(reason.actual)}{unit}, expected {band}{unit}{nats}"


def other_text(other: Episode) -> str:
    """Say in a line who else alarmed."""
    until = "still firing" if other.end_s is None else f"until {time_text(other.end_s)}"
    who = other.entity
    if other.kind in ABSENCES:
        who = f"{other.kind.replace('_', ' ')}, {'several' if who == MANY_ENTITIES else who}"
    elif other.kind == "incident":
        who = f"incident of {other.entities} entities"
    feature = f", {other.feature}" if other.feature else ""
    score = "" if other.anomaly_score is None else f", anomaly score {other.anomaly_score:.3g}"
    start = time_text(other.start_s)
    return f"{start}  {other.detector or other.input}: {who}{feature}{score}, {until}; alert {other.alert_id}"


def others_title(found: Explanation) -> str:
    """Say how many others alarmed, by detector."""
    if not found.others:
        return "Nobody else alarmed within 10 minutes of it"
    by_detector = Counter(other.detector or other.input for other in found.others)
    counted = ", ".join(f"{count} of {name}" for name, count in sorted(by_detector.items()))
    more = f" and {found.others_left_out} more" if found.others_left_out else ""
    return f"Who else alarmed within 10 minutes of it: {counted}{more}"


def changes_told(found: Explanation) -> Iterator[tuple[str, list[Change]]]:
    """Yield title and list of what changed before the alert fired, and of what did since."""
    before = found.changes_before
    yield "What changed in the day before" if before else _NO_CHANGES, before
    since = found.changes_since
    what = "What" if since else "Nothing"
    yield f"{what} changed since then, until {time_text(found.changes_until_s)}", since


def change_text(change: Change) -> str:
    """Say in a line what changed."""
    return f"{time_text(change.time_s)}  {change.what}"


def _state(found: Explanation) -> str:
    alert = found.alert
    if alert.state != "resolved":
        heard = time_text(alert.time.timestamp())
        return f"{alert.state}; no event says that it is over, the newest is of {heard}"
    if alert.resolved_because == "new_normal":
        lasted = duration_text((alert.time - alert.start).total_seconds())
        return f"resolved after {lasted}: it lasted so long that it counts as the new normal"
    return resolved_summary(alert)


def _records(found: Explanation, width: int) -> Table:
    table = Table("time (UTC)", "score", "", box=None, pad_edge=False, caption_justify="left")
    features = found.features[: max((width - _RECORD_WIDTH) // _FEATURE_WIDTH, 1)]
    for name in features:
        unit = found.unit.get(name)
        table.add_column(_shown(f"{name} ({unit})" if unit else name), justify="right")
        table.add_column("expected", justify="center", style="dim")
        table.add_column("nats", justify="right")
    for moment in found.moments:
        mark = mark_of(found, moment)
        cells = [plain_time_text(moment.time_s), _number(moment.anomaly_score, ".2f"), mark]
        for name in features:
            part = part_of(moment, name)
            cells += ["", "", ""] if part is None else _cells(part)
        table.add_row(*map(_shown, cells), style="bold red" if moment.suspicious else None)
    table.caption = f"expected: ± {BAND_STDS:g} standard deviations; score 1 is the threshold"
    return table


def mark_of(found: Explanation, moment: Moment) -> str:
    """Return what is special about a record: the peak, suspicious, a rule's, or why it has no score."""
    if moment.status != "scored":
        return moment.status
    if found.peak_s is not None and abs(moment.time_s - found.peak_s) < 1e-3:
        return "peak"
    return moment.rule or ("suspicious" if moment.suspicious else "")


def _cells(part: FeatureReason) -> list[str]:
    if part.frequency is not None:
        return [*frequency_texts(part.frequency), _number(part.nats, ".1f")]
    actual = part.actual if part.actual is None or isinstance(part.actual, str) else float(part.actual)
    missing = actual is None or (isinstance(actual, float) and math.isnan(actual))
    band = "" if part.expected is None else _band(part.expected, part.std)
    return ["missing" if missing else _value(actual), band, _number(part.nats, ".1f")]


def _band(expected: float | str, std: float | None) -> str:
    if isinstance(expected, str) or std is None:
        return _value(expected)
    return f"{expected - BAND_STDS * std:.4g} … {expected + BAND_STDS * std:.4g}"


def _value(value: float | str | None) -> str:
    if value is None:
        return "missing"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _number(value: float, form: str) -> str:
    return "" if math.isnan(value) else format(value, form)


def as_data(found: Explanation) -> dict[str, Any]:
    """Return the same as plain data for JSON, with times as RFC 3339 text."""
    return {
        "alert": found.alert,
        "fired": found.firing,
        "features": found.features,
        "records": [
            {
                "time": _rfc3339(moment.time_s),
                "offset": moment.offset,
                "status": moment.status,
                "p_value": moment.p_value,
                "anomaly_score": moment.anomaly_score,
                "mark": mark_of(found, moment),
                "features": moment.features,
            }
            for moment in found.moments
        ],
        "notes": found.notes,
        "others": [
            {
                "alert_id": other.alert_id,
                "kind": other.kind,
                "detector": other.detector,
                "entity": other.entity,
                "severity": other.severity,
                "start": _rfc3339(other.start_s),
                "end": None if other.end_s is None else _rfc3339(other.end_s),
                "anomaly_score": other.anomaly_score,
                "feature": other.feature,
            }
            for other in found.others
        ],
        "others_left_out": found.others_left_out,
        "changes_until": _rfc3339(found.changes_until_s),
        "changes": [{"time": _rfc3339(change.time_s), "what": change.what} for change in found.changes],
    }


def _shown(text: str) -> Text:
    """Return a text that is no markup and moves no cursor: names are what producers write."""
    return Text(_CONTROL.sub("\N{REPLACEMENT CHARACTER}", text))


def _rfc3339(seconds: float) -> str:
    return f"{plain_time_text(seconds).replace(' ', 'T')}Z"
