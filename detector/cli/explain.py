"""``detector explain``: why an alert fired, with the records that it is about."""

from pathlib import Path

import click

from detector.cli.failure import Failure, explained
from detector.config import ConfigError, load_config


@click.command()
@click.argument("config", type=click.Path(path_type=Path, dir_okay=False))
@click.argument("alert_id")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead.")
@click.option(
    "--html",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Draw it into this file as well; needs the extra 'report'.",
)
@click.option(
    "--offsets",
    type=click.IntRange(min=1),
    default=300_000,
    show_default=True,
    help="Records of the partition to look at, at most, for those of the entity.",
)
def explain(config: Path, alert_id: str, as_json: bool, html: Path | None, offsets: int) -> None:
    """Explain the alert ALERT_ID that the daemon of CONFIG raised.

    Reads what the alerts topic says of it, and the last records of the entity from the input topic, which
    the version that raised the alert scores again; says what was expected of every feature, who else
    alarmed then, and what had changed. Joins no consumer group and writes to no topic.
    """
    with explained(ConfigError):
        loaded = load_config(config)
    import msgspec
    from rich.console import Console

    from detector.bundles.html import ReportError
    from detector.explain.explanation import ExplainError, access_to
    from detector.explain.explanation import explain as explain_alert
    from detector.explain.page import explanation_page
    from detector.explain.text import as_data, print_explanation
    from detector.stream.port import KafkaClientError

    with explained(ExplainError, KafkaClientError):
        found = explain_alert(loaded, config, alert_id, offsets, access_to(loaded))
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(as_data(found))))
    else:
        print_explanation(found, Console(width=None if Console().is_terminal else 200))
    if html is None:
        return
    with explained(ReportError):
        drawn = explanation_page(found)
    try:
        html.write_text(drawn, encoding="utf-8")
    except OSError as error:
        raise Failure(f"{html}: {error.strerror or error}") from error
    click.echo(html, err=True)
