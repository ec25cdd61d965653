"""An explanation as one HTML page: the entity's records in their expected bands, and all the facts."""

import math
from html import escape
from typing import TYPE_CHECKING

import numpy as np

from detector.alerting.event import FeatureReason
from detector.batch import FloatArray
from detector.bundles.html import page, plot, table
from detector.delivery.wording import frequency_texts
from detector.explain.explanation import Explanation, part_of
from detector.explain.text import (
    BAND_STDS,
    change_text,
    changes_told,
    facts,
    mark_of,
    other_text,
    others_title,
)
from detector.explain.times import plain_time_text, time_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_BLUE, _RED, _GREY = "#1f6feb", "#d1242f", "#9aa5b1"


def explanation_page(found: Explanation) -> str:
    """Return the page.

    Raises:
        ReportError: matplotlib is not installed.
    """
    alert = found.alert
    title = f"{alert.entity or alert.detector}, {time_text(found.firing.start.timestamp())}"
    parts = [f"<h1>{escape(title)}</h1>", table([("", "")], list(facts(found)))]
    if found.moments:
        parts += ["<h2>Anomaly score</h2>", _scores(found)]
        parts += [part for name in found.features for part in _feature(found, name)]
    parts += [f'<p class="note">{escape(note)}</p>' for note in found.notes]
    parts.append(f"<h2>{escape(others_title(found))}</h2>")
    parts.append(_listed([other_text(other) for other in found.others]))
    for heading, changes in changes_told(found):
        parts.append(f"<h2>{escape(heading)}</h2>")
        parts.append(_listed([change_text(change) for change in changes]))
    return page(title, parts)


def _scores(found: Explanation) -> str:
    score = np.array([moment.anomaly_score for moment in found.moments])

    def draw(axes: "Axes") -> None:
        _axis_of_time(axes, found)
        axes.axhline(1.0, color=_GREY, linewidth=1)
        axes.plot(score, "-", color=_BLUE)
        _marked(axes, found, score)
        axes.set(ylabel="1 is the threshold")

    return plot(draw, height=2.4)


def _feature(found: Explanation, name: str) -> list[str]:
    parts = [part_of(moment, name) for moment in found.moments]
    numbers = [part for part in parts if part is not None and not isinstance(part.expected, str)]
    unit = f", {found.unit[name]}" if name in found.unit else ""
    heading = f"<h2>{escape(name + unit)}</h2>"
    if not numbers or any(isinstance(part.actual, str) or part.frequency is not None for part in numbers):
        rows = [
            (plain_time_text(m.time_s), *_told(p), f"{p.nats:.1f}", mark_of(found, m))
            for m, p in zip(found.moments, parts, strict=True)
            if p is not None
        ]
        return [heading, table([("Time (UTC)", "actual", "expected", "nats", "")], rows)]
    actual, expected, std, nats = (
        np.array([_float(getattr(part, field, None)) for part in parts])
        for field in ("actual", "expected", "std", "nats")
    )

    def band(axes: "Axes") -> None:
        _axis_of_time(axes, found)
        x = np.arange(expected.size)
        low, high = expected - BAND_STDS * std, expected + BAND_STDS * std
        axes.fill_between(x, low, high, color=_BLUE, alpha=0.2, linewidth=0)
        axes.plot(expected, "-", color=_BLUE, linewidth=1)
        axes.plot(actual, "-", color="#1c2733")
        _marked(axes, found, actual)

    def surprise(axes: "Axes") -> None:
        _axis_of_time(axes, found)
        axes.bar(np.arange(nats.size), np.nan_to_num(nats), color=_GREY)
        axes.set(ylabel="nats")

    note = f"Black: actual; blue: expected, ± {BAND_STDS:g} standard deviations; red: suspicious."
    return [heading, plot(band), plot(surprise, height=1.6), f'<p class="note">{note}</p>']


def _told(part: FeatureReason) -> tuple[str, str]:
    """Return what was, and what was expected: of the value, or of how often it came."""
    if part.frequency is not None:
        return frequency_texts(part.frequency)
    return str(part.actual), str(part.expected)


def _axis_of_time(axes: "Axes", found: Explanation) -> None:
    """Label a few of the records by their time of day: they need not be evenly spaced."""
    every = max(len(found.moments) // 6, 1)
    ticks = list(range(0, len(found.moments), every))
    axes.set_xticks(ticks, [plain_time_text(found.moments[i].time_s)[11:] for i in ticks])
    axes.set_xlabel("UTC")


def _marked(axes: "Axes", found: Explanation, values: FloatArray) -> None:
    suspicious = [i for i, moment in enumerate(found.moments) if moment.suspicious]
    axes.plot(suspicious, values[suspicious], "o", color=_RED, markersize=4)


def _float(value: float | str | None) -> float:
    return float(value) if isinstance(value, float) else math.nan


def _listed(lines: list[str]) -> str:
    return f"<ul>{''.join(f'<li>{escape(line)}</li>' for line in lines)}</ul>" if lines else ""
