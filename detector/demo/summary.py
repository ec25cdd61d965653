"""The end of the demonstration: what was found, at which price, and one alert explained."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rich import box
from rich.console import Console
from rich.table import Table

from detector.demo.evaluation import Evaluation, Incident
from detector.demo.observed import Alert, Observed
from detector.demo.scrape import Scrape
from detector.demo.view import clock


@dataclass(frozen=True, slots=True)
class Outcome:
    """Everything that the summary tells."""

    sent: int
    total: int
    observed: Observed
    evaluations: Mapping[str, Evaluation]
    """By detector, over the incidents that began in what was sent."""
    incidents: Sequence[Incident]
    firing_share: Mapping[str, float]
    """Event time inside an episode, as a share of the time watched, by detector."""
    server_days: float
    """Event time watched, summed over servers."""
    budget_per_server_day: float
    scrape: Scrape
    speed_up: float
    """Event time sent per second."""
    streamed_s: float
    """From the first record sent to the last one scored."""

    @property
    def complete(self) -> bool:
        """Whether every record sent has a status from every detector, and no other record has."""
        counts = [sum(statuses.values()) for statuses in self.observed.statuses.values()]
        return all(count == self.sent for count in counts)


def print_summary(console: Console, outcome: Outcome) -> None:
    """Write everything."""
    _print_incidents(console, outcome)
    _print_detectors(console, outcome)
    explained = best_explained(outcome)
    if explained is not None:
        for line in explanation(explained):
            console.print(line, markup=False, highlight=False)
        console.print()
    for line in accounts(outcome):
        console.print(line, markup=False, highlight=False)


def accounts(outcome: Outcome) -> list[str]:
    """Return what became of the records sent, a line per detector, from the scores topic, and how fast."""
    rate = outcome.sent / outcome.streamed_s if outcome.streamed_s else 0.0
    lines = [
        f"{outcome.sent} records in {outcome.streamed_s:.1f} s: {rate:,.0f} records/s, each scored by "
        f"{len(outcome.evaluations)} detectors; the replay sets the pace, {outcome.speed_up:,.0f} times "
        "real speed"
    ]
    for name, statuses in outcome.observed.statuses.items():
        counts = ", ".join(f"{count} {status}" for status, count in sorted(statuses.items()))
        verdict = "all of them" if sum(statuses.values()) == outcome.sent else "NOT ALL OF THEM"
        lines.append(f"{name}: {outcome.sent} records sent, {counts or 'none answered'}: {verdict}")
    if outcome.sent < outcome.total:
        lines.append(
            f"{outcome.total - outcome.sent} of {outcome.total} records were not sent in the time given"
        )
    if outcome.scrape.dead_letters:
        lines.append(f"{outcome.scrape.dead_letters} records became dead letters")
    if outcome.observed.duplicates:
        lines.append(f"{outcome.observed.duplicates} scores came twice: delivery is at least once")
    return lines


def best_explained(outcome: Outcome) -> Alert | None:
    """Return the most improbable alert that found an incident, else the most improbable of all."""
    alerts = [alert for alert in outcome.observed.alerts.values() if alert.firing.reasons]

    def rank(alert: Alert) -> tuple[bool, float]:
        return is_labelled(alert, outcome.incidents), alert.firing.anomaly_score

    return max(alerts, key=rank, default=None)


def explanation(alert: Alert) -> list[str]:
    """Return one alert in words: when, how rare, which features were not as expected, and the regime."""
    event = alert.firing
    lines = [
        f"One alert explained: {event.entity} by {event.detector}, {clock(event.time.timestamp())}",
        f"  {event.return_period}: p = {event.p_value:.2g}, anomaly score {event.anomaly_score:.2f}, "
        "where 1 is the threshold",
    ]
    for reason in event.reasons[:3]:
        actual = "missing" if reason.actual is None else f"{reason.actual:.3f}"
        lines.append(f"  {reason.feature}  {actual}, expected {reason.expected:.3f} ± {reason.std:.3f}")
    if event.regime is not None:
        lines.append(f"  {event.regime.text}")
    return lines


def is_labelled(alert: Alert, incidents: Sequence[Incident]) -> bool:
    """Return whether an alert overlaps an incident, as far as it is known."""
    episode = alert.episode(alert.firing.time.timestamp())
    return any(
        i.entity == episode.entity and episode.start <= i.end and episode.end >= i.start for i in incidents
    )


def _print_incidents(console: Console, outcome: Outcome) -> None:
    names = list(outcome.evaluations)
    table = Table("labelled incident", "began", "lasted", *names, box=box.SIMPLE_HEAD, pad_edge=False)
    for i, incident in enumerate(outcome.incidents):
        cells = [_verdict(outcome.evaluations[name].findings[i].delay_s) for name in names]
        table.add_row(incident.entity, clock(incident.start), _minutes(incident.end - incident.start), *cells)
    console.print(table)


def _print_detectors(console: Console, outcome: Outcome) -> None:
    table = Table(
        "detector",
        "incidents\nfound",
        "fired\nbefore",
        "false\nalarms",
        "per server and\nday: promised",
        "\nobserved",
        "share of\ntime firing",
        "suspicious\nfrom p <=",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
    )
    days = max(outcome.server_days, 1e-9)
    for name, evaluation in outcome.evaluations.items():
        threshold = outcome.scrape.p_value_threshold.get(name)
        table.add_row(
            name,
            f"{evaluation.found} of {len(evaluation.findings)}",
            str(evaluation.fired_before),
            str(len(evaluation.false_alarms)),
            f"{outcome.budget_per_server_day:.2f}",
            f"{evaluation.false_episodes / days:.2f}",
            f"{outcome.firing_share[name]:.1%}",
            "?" if threshold is None else f"{threshold:.2g}",
        )
    console.print(table)


def _verdict(delay_s: float | None) -> str:
    if delay_s is None:
        return "[red]missed[/]"
    when = f"fired {_minutes(-delay_s)} before" if delay_s < 0 else f"after {_minutes(delay_s)}"
    return f"[green]found[/], {when}"


def _minutes(seconds: float) -> str:
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes / 60:.1f} h"
