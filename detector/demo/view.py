"""The live view: one snapshot in, one screen or one line out."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

_BAR_WIDTH = 12
_FULL_BAR = 2.0
"""The anomaly score that fills a bar: 1.0, half of it, is the threshold."""


@dataclass(frozen=True, slots=True)
class ServerLine:
    """One server now."""

    name: str
    incident: bool
    """Whether the labels say that something is wrong."""
    scores: tuple[float | None, ...]
    """Newest anomaly score of each detector; None before the first."""
    firing: tuple[bool, ...]


@dataclass(frozen=True, slots=True)
class EventLine:
    """A transition of an alert."""

    time: float
    """Event time, seconds since 1970."""
    entity: str
    detector: str
    fires: bool
    labelled: bool
    """Whether the alert overlaps a labelled incident."""
    text: str
    """Why it fired, or how long it lasted."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything that is shown."""

    elapsed_s: float
    event_time: float
    speed_up: float
    sent: int
    total: int
    answered: int
    """Records that every detector gave a status."""
    records_per_s: float
    lag: int
    """Records behind, as the daemon's metrics say."""
    detectors: tuple[str, ...]
    servers: tuple[ServerLine, ...]
    events: tuple[EventLine, ...]
    """Newest last."""


def render(now: Snapshot) -> RenderableType:
    """Return the whole screen."""
    head = Text.assemble(
        (clock(now.event_time), "bold"),
        f" at {now.speed_up:,.0f} times real speed   ",
        (f"{now.records_per_s:,.0f}", "bold"),
        " records/s   lag ",
        (f"{now.lag:,}", "bold"),
        f"   scored {now.answered:,} of {now.sent:,} sent",
        f" ({now.answered / max(now.total, 1):.0%})",
    )
    return Panel(
        Group(head, _servers(now), _events(now.events)),
        title="detector demo: real telemetry, real daemon, embedded broker",
        title_align="left",
    )


def plain_line(now: Snapshot) -> str:
    """Return the same in one line, for what is not a terminal."""
    firing = sorted({server.name for server in now.servers if any(server.firing)})
    incidents = [server.name for server in now.servers if server.incident]
    return (
        f"{now.elapsed_s:5.1f} s  {clock(now.event_time)}  {now.records_per_s:6,.0f} records/s  "
        f"lag {now.lag}  scored {now.answered} of {now.sent} sent  "
        f"firing: {', '.join(firing) or '-'}  labelled incident: {', '.join(incidents) or '-'}"
    )


def event_line(event: EventLine) -> str:
    """Return a transition in one line."""
    what = "FIRING" if event.fires else "resolved"
    labelled = "incident" if event.labelled else "no label"
    return (
        f"{clock(event.time)}  {event.detector:<4} {event.entity:<7} {what:<8}  {labelled:<8}  {event.text}"
    )


def clock(seconds: float) -> str:
    """Return an event time to the minute, in UTC."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M")


def _servers(now: Snapshot) -> Table:
    table = Table(box=None, expand=True, padding=(0, 1))
    table.add_column("most anomalous first", no_wrap=True)
    table.add_column("labels say", no_wrap=True)
    for detector in now.detectors:
        table.add_column(f"{detector} anomaly score", no_wrap=True)
    ordered = sorted(now.servers, key=lambda s: (not any(s.firing), -max(_known(s.scores), default=0.0)))
    for server in ordered:
        label = Text("INCIDENT", style="bold magenta") if server.incident else Text("-", style="dim")
        cells = [_score(score, firing) for score, firing in zip(server.scores, server.firing, strict=True)]
        table.add_row(escape(server.name), label, *cells)
    return table


def _known(scores: Sequence[float | None]) -> list[float]:
    return [score for score in scores if score is not None]


def _score(score: float | None, firing: bool) -> Text:
    if score is None:
        return Text("warming up", style="dim")
    filled = round(min(score / _FULL_BAR, 1.0) * _BAR_WIDTH)
    style = "red" if score >= 1.0 else "green"
    cell = Text.assemble((("█" * filled).ljust(_BAR_WIDTH, "·"), style), f" {score:5.2f} ")
    return cell.append("FIRING", style="bold red") if firing else cell


def _events(events: Sequence[EventLine]) -> Panel:
    lines = Text(no_wrap=True, overflow="ellipsis")
    if not events:
        lines.append("no alert yet", style="dim")
    for event in events:
        style = ("bold red" if event.fires else "green") if event.labelled else "yellow"
        lines.append(event_line(event) + "\n", style=style)
    return Panel(lines, title="alerts", title_align="left", height=10)
