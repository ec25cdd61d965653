"""``detector demo``: real telemetry, real incidents, the real daemon; no server to install."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import click
from rich.console import Console

from detector.cli.failure import Failure
from detector.extras import how_to_install


@click.command()
@click.option("--servers", type=click.IntRange(1, 6), default=6, show_default=True, help="How many to watch.")
@click.option(
    "--seconds",
    type=click.FloatRange(min=5),
    help="End within this time, training and all; the telemetry is sent faster, or cut short, to fit.",
)
@click.option(
    "--speed-up",
    type=click.FloatRange(min=1),
    help="Event time per second of real time.  [default: 60000, or what --seconds needs]",
)
@click.option("--keep", is_flag=True, help="Go on serving /metrics after the summary, until Ctrl-C.")
def demo(servers: int, seconds: float | None, speed_up: float | None, keep: bool) -> None:
    """Watch the daemon find real incidents in real server telemetry.

    Trains two detectors on 30 days of up to six application servers, starts the daemon, sends it the 15
    days after them, and compares its alerts with the labels of the incidents that were reported.
    The broker is embedded and for demonstration only.

    Exit code 0 if something was sent and all of it was scored, else 1.
    """
    try:
        from detector.demo.run import DemoOptions, DemoTimeoutError, run_demo
        from detector.stream.port import ClientSettingsError, KafkaClientError
    except ModuleNotFoundError as error:
        message = f"the demonstration needs {error.name}; {how_to_install('train,confluent')}"
        raise Failure(message) from error
    from detector.demo.children import ChildFailedError
    from detector.demo.telemetry import DemoDataError

    console = Console()
    if not console.is_terminal:
        console = Console(width=140)
    try:
        with _signals_interrupt():
            code = run_demo(DemoOptions(servers, seconds, speed_up, keep), console)
    except ClientSettingsError as error:
        raise Failure(str(error)) from error
    except (DemoDataError, ChildFailedError, DemoTimeoutError, KafkaClientError) as error:
        raise click.ClickException(str(error)) from error
    except KeyboardInterrupt:
        console.print("stopped")
        code = 130
    raise SystemExit(code)


@contextmanager
def _signals_interrupt() -> Iterator[None]:
    """Take SIGTERM and a closing terminal for Ctrl-C: the children must go as well."""
    before = {number: signal.signal(number, _interrupt) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _interrupt(signum: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
