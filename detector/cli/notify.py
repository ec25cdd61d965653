"""``detector notify``: alert events on their way to people, until it is told to stop."""

from pathlib import Path

import click

from detector.cli.failure import explained
from detector.config import ConfigError, load_config


@click.command()
@click.argument("config", type=click.Path(path_type=Path, dir_okay=False))
def notify(config: Path) -> None:
    """Tell Alertmanager and webhooks of alerts as CONFIG says, until SIGTERM or SIGINT.

    A process of its own, beside ``detector run``: it reads the alerts topic, so that a slow
    receiver never slows scoring. Exit codes: 0 after a clean stop, 2 for a configuration or a
    port that cannot be used or an instance id that another replica has, 70 where the Kafka client
    hangs and only a new process helps, 1 for anything unforeseen.
    """
    with explained(ConfigError):
        loaded = load_config(config)
    from detector.logs import configure_logs
    from detector.notifier import NotConfiguredError
    from detector.notifier import run as run_notifier
    from detector.stream.port import ClientSettingsError
    from detector.web.server import WebError

    configure_logs(loaded.logging.level, loaded.logging.format)
    with explained(NotConfiguredError, ClientSettingsError, WebError):
        run_notifier(loaded)
