"""The report of a model as one HTML page with its plots inside: nothing else to ship, nothing to fetch."""

from datetime import UTC, datetime
from html import escape
from typing import TYPE_CHECKING

from detector.bundles.choice import Choice
from detector.bundles.html import page, plot, table
from detector.bundles.manifest import Manifest, ManifestMember
from detector.bundles.report import (
    CalibrationCheck,
    Closeness,
    CommitteeReport,
    Curve,
    FeatureRange,
    GeneratedQuality,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def report_page(manifest: Manifest) -> str:
    """Return the page of one trained version.

    Raises:
        ReportError: matplotlib is not installed.
    """
    title = f"{manifest.detector}, version {manifest.version}"
    parts = [
        f"<h1>{escape(title)}</h1>",
        _facts(manifest),
        *([] if manifest.choice is None else _choice(manifest.choice)),
        *([] if manifest.report is None else _together(manifest.report)),
        *(part for member in manifest.members for part in _member(member)),
        _features(manifest.members[0].report.features),
    ]
    return page(title, parts)


def _facts(manifest: Manifest) -> str:
    facts = manifest.training
    smallest_budget_s = manifest.members[0].report.smallest_budget_s
    rows = [
        (
            "Records",
            f"{facts.records}: {facts.fitting_records} fitted, {facts.calibration_records} calibrated",
        ),
        ("From, until", f"{_utc(facts.from_time_s)}, {_utc(facts.until_time_s)}"),
        (
            "Smallest budget supported",
            f"one false alarm per entity in {smallest_budget_s / 86_400:.3g} days",
        ),
    ]
    return table([("", "")], rows)


def _choice(choice: Choice) -> list[str]:
    reasons = "".join(f"<li>{escape(reason)}</li>" for reason in choice.reasons)
    parts = [f"<h2>Why this committee</h2><ul>{reasons}</ul>"]
    if choice.predictors:
        rows = [
            (tried.name, "" if tried.nats is None else f"{tried.nats:.4g}", tried.note)
            for tried in choice.predictors
        ]
        parts.append(table([("Predictor", "nats per record", "")], rows))
    if choice.labelled:
        ranked = [("; ".join(tried.members), f"{tried.average_precision:.3f}") for tried in choice.labelled]
        parts.append(table([("Committee", "average precision on labelled records")], ranked))
    if choice.committees:
        found = [
            (
                "; ".join(tried.members),
                f"{tried.recall:.3f}",
                f"{tried.older_alarms:.3f}",
                f"{tried.newer_alarms:.3f}",
                tried.note,
            )
            for tried in choice.committees
        ]
        head = ("Committee", "recall", "alarms, older", "alarms, newer", "")
        parts.append(
            f"{table([head], found)}"
            f'<p class="note">Recall of {choice.canaries} anomalies made in records set aside; normal '
            "stretches of their older and newer half that are as loud as what was found.</p>"
        )
    return parts


def _together(report: CommitteeReport) -> list[str]:
    cost = f"{report.cost_us:.3g} microseconds per record where it was trained, for all members together"
    return ["<h2>What decides</h2>", table([("", "")], [("Cost", cost)]), _calibration(report.calibration)]


def _member(member: ManifestMember) -> list[str]:
    report, likelihood = member.report, member.held_out_mean_log_likelihood
    rows = [
        ("Evidence", member.evidence),
        (
            "Held-out log-likelihood",
            "none" if likelihood is None else f"{likelihood:.4g} nats per record, trimmed mean",
        ),
        ("Cost", f"{report.cost_us:.3g} microseconds per record where it was trained"),
        *(
            []
            if member.share == 1.0
            else [("Share of false alarms", f"{member.share:g} of another member's")]
        ),
        *((name.replace("_", " "), _text(value)) for name, value in sorted(member.choices.items())),
    ]
    return [
        f"<h2>{escape(member.family)} with predictor {escape(member.predictor)}</h2>",
        table([("", "")], rows),
        _calibration(report.calibration),
        _generated(report.generated),
        *(_curve(curve) for curve in report.training),
    ]


def _calibration(check: CalibrationCheck | None) -> str:
    if check is None:
        return "<h3>Calibration</h3><p>Too few rows were held out to check it.</p>"

    def draw(axes: "Axes") -> None:
        x = [point.p_value for point in check.points]
        axes.plot([x[0], 1], [x[0], 1], color="#9aa5b1", linewidth=1)
        # A share of 0 has no place on this axis.
        seen = [(point.p_value, point.observed) for point in check.points if point.observed > 0]
        axes.plot(*zip(*seen, strict=True), "o-", color="#1f6feb")
        axes.set(xscale="log", yscale="log", xlabel="p-value", ylabel="share of rows at or below it")

    return (
        f"<h3>Calibration</h3>{plot(draw)}"
        f'<p class="note">{check.rows} rows of the newer half of held-out time, calibrated on the older. '
        f"On the line p-values mean what they say; largest deviation {check.largest_deviation:.3f}.</p>"
    )


def _generated(quality: GeneratedQuality | None) -> str:
    if quality is None:
        return ""

    def row(name: str, of: Closeness) -> tuple[str, ...]:
        return name, f"{of.frechet_distance:.3g}", f"{of.precision:.3f}", f"{of.coverage:.3f}"

    closeness = table(
        [("Rows", "Fréchet distance", "precision", "coverage")],
        [row("generated", quality.generated), row("fitted, for comparison", quality.fitted)],
    )
    return (
        f"<h3>Generated rows beside held-out ones</h3>{closeness}"
        f'<p class="note">{quality.rows} rows of each, as <code>detector generate</code> writes them, in '
        "standard deviations. Coverage far below the fitted rows' means lost modes.</p>"
    )


def _curve(curve: Curve) -> str:
    def draw(axes: "Axes") -> None:
        axes.plot(*zip(*curve.points, strict=True), "o-" if len(curve.points) < 20 else "-", color="#1f6feb")
        axes.set(xlabel=curve.against, ylabel=curve.measure)

    return f"<h3>Fit: {escape(curve.measure)}</h3>{plot(draw)}"


def _features(ranges: tuple[FeatureRange, ...]) -> str:
    rows = [
        (
            feature.name,
            f"{100 * feature.missing:.2g} %",
            *(
                f"{value:.4g}"
                for value in (feature.minimum, feature.low, feature.median, feature.high, feature.maximum)
            ),
        )
        for feature in ranges
    ]
    head = [("Feature", "missing", "minimum", "1 %", "median", "99 %", "maximum")]
    return f"<h2>Features in training</h2>{table(head, rows)}"


def _text(value: float | int | str) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _utc(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
