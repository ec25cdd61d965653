"""``detector run``: the daemon, until it is told to stop."""

from pathlib import Path

import click

from detector.cli.failure import explained
from detector.config import ConfigError, load_config


@click.command()
@click.argument("config", type=click.Path(path_type=Path, dir_okay=False))
def run(config: Path) -> None:
    """Score records as CONFIG says, until SIGTERM or SIGINT.

    Exit codes: 0 after a clean stop, 2 for a configuration, a bundle or a port that cannot be
    used or an instance id that another replica has, 70 where the Kafka client hangs and only a
    new process helps, 1 for anything unforeseen.
    """
    with explained(ConfigError):
        loaded = load_config(config)
    from detector.bundles.store import BundleError
    from detector.daemon import run as run_daemon
    from detector.logs import configure_logs
    from detector.stream.port import ClientSettingsError
    from detector.stream.record_struct import PathError
    from detector.web.server import WebError

    configure_logs(loaded.logging.level, loaded.logging.format)
    with explained(BundleError, ClientSettingsError, PathError, WebError):
        run_daemon(loaded, config)
