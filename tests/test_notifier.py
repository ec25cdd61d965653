"""Tests for detector.notifier: from a configuration to receivers."""

import base64
from pathlib import Path
from typing import Any

from click.testing import CliRunner

from detector.cli.main import main
from detector.config.notify import NotifyConfig
from detector.delivery.receiver import AlertmanagerReceiver
from detector.notifier import _endpoint, _receivers
from tests.delivery.counts import Counts

SECRET = "whsec_" + base64.b64encode(b"k" * 32).decode()
HEAD = """
inputs: [{name: t, topics: t}]
detectors: [{name: hosts, input: t, features: [cpu]}]
"""


def notify(**keys: Any) -> NotifyConfig:
    return NotifyConfig.model_validate(keys)


def test_every_replica_and_every_webhook_is_a_receiver_of_its_own() -> None:
    config = notify(
        alertmanagers=[{"urls": ["http://am-0:9093", "https://am-1/prefix/"]}],
        webhooks=[{"name": "oncall", "url": "https://hooks.example.org/secret", "secret": SECRET}],
    )
    receivers = _receivers(config, lambda finished: None, Counts())
    assert [receiver.id for receiver in receivers] == [
        "alertmanager am-0:9093",
        "alertmanager am-1:443",
        "oncall hooks.example.org:443",
    ]
    assert [isinstance(receiver, AlertmanagerReceiver) for receiver in receivers] == [True, True, False]


def test_credentials_become_a_header() -> None:
    basic = notify(webhooks=[{"name": "a", "url": "http://b", "username": "me", "password": "hunter2"}])
    token = notify(webhooks=[{"name": "a", "url": "http://b", "bearer_token": "hunter2"}])
    assert _endpoint(basic.webhooks[0], "http://b").authorization == "Basic bWU6aHVudGVyMg=="
    assert _endpoint(token.webhooks[0], "http://b").authorization == "Bearer hunter2"
    assert (
        _endpoint(notify(webhooks=[{"name": "a", "url": "http://b"}]).webhooks[0], "http://b").authorization
        is None
    )


def test_secrets_come_from_files_and_show_nowhere(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text(f"{SECRET} {SECRET}\n")
    file.chmod(0o600)
    config = notify(webhooks=[{"name": "a", "url": "http://b", "secret_file": str(file)}])
    assert config.webhooks[0].keys == (b"k" * 32, b"k" * 32)
    assert SECRET not in repr(config)
    assert SECRET not in config.model_dump_json()


def test_a_configuration_that_tells_nobody_is_told_what_to_add(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(HEAD)
    result = CliRunner().invoke(main, ["notify", str(path)])
    assert result.exit_code == 2
    assert "add alertmanagers or webhooks" in result.stderr


def test_check_says_who_is_told(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(
        HEAD + "notify: {alertmanagers: [{urls: ['http://a:9093', 'http://b:9093']}], "
        f"webhooks: [{{name: oncall, url: 'http://c/hunter2', secret: {SECRET}}}]}}\n"
    )
    result = CliRunner().invoke(main, ["check", str(path)])
    assert result.exit_code == 0, result.output
    assert "notify    alertmanager (a:9093, b:9093), oncall (signed)\n" in result.output
    assert "hunter2" not in result.output
    assert SECRET not in result.output
