"""Tests for detector.config.files: secrets, certificates and paths that a configuration names."""

import os
import subprocess
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result

from detector.cli.main import main
from detector.config.files import read_secret
from tests.kafka.secured_broker import Authority


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def client(authority: Authority) -> tuple[Path, Path]:
    certificate, key = authority.issue("client")
    key.chmod(0o600)
    return certificate, key


def check(folder: Path, *options: str, **sections: object) -> Result:
    """Return what ``detector check`` says of a minimal configuration with these sections."""
    path = folder / "config.yaml"
    minimal = {
        "inputs": [{"name": "t", "topics": "t"}],
        "detectors": [{"name": "d", "input": "t", "features": ["cpu"]}],
    }
    path.write_text(yaml.safe_dump(minimal | sections))
    return CliRunner().invoke(main, ["check", *options, str(path)])


def tls(**files: Path) -> dict[str, object]:
    return {"security": {"protocol": "SSL", **{name: str(path) for name, path in files.items()}}}


def secret_file(folder: Path, content: bytes, mode: int = 0o600) -> Path:
    path = folder / "secret"
    path.write_bytes(content)
    path.chmod(mode)
    return path


def test_certificates_that_fit_are_taken(
    tmp_path: Path, authority: Authority, client: tuple[Path, Path]
) -> None:
    files = tls(ca_file=authority.certificate, certificate_file=client[0], key_file=client[1])
    result = check(tmp_path, kafka=files)
    assert result.exit_code == 0, result.output


def test_a_file_without_a_certificate_is_found_before_anything_is_connected(
    tmp_path: Path, client: tuple[Path, Path]
) -> None:
    for name in ("ca_file", "certificate_file"):
        files = {name: secret_file(tmp_path, b"hello\n")}
        result = check(
            tmp_path, kafka=tls(**({"certificate_file": client[0], "key_file": client[1]} | files))
        )
        assert result.exit_code == 2
        assert f"kafka.security: {name} '{files[name]}' holds no certificate" in result.output


def test_the_key_of_another_certificate_is_refused(
    tmp_path: Path, authority: Authority, client: tuple[Path, Path]
) -> None:
    _, other = authority.issue("other")
    other.chmod(0o600)
    result = check(tmp_path, kafka=tls(certificate_file=client[0], key_file=other))
    assert result.exit_code == 2
    assert f"key_file '{other}' is the key of another certificate than certificate_file" in result.output


def test_an_encrypted_key_is_refused_and_nobody_is_asked_for_a_pass_phrase(
    tmp_path: Path, client: tuple[Path, Path]
) -> None:
    encrypted = tmp_path / "encrypted.key"
    command = ["openssl", "pkey", "-in", str(client[1]), "-aes256", "-passout", "pass:x", "-out"]
    subprocess.run([*command, str(encrypted)], check=True, capture_output=True)
    encrypted.chmod(0o600)
    result = check(tmp_path, kafka=tls(certificate_file=client[0], key_file=encrypted))
    assert result.exit_code == 2
    assert "key_file is encrypted, and nobody is there to be asked" in result.output


@pytest.mark.parametrize("content", [b"hunter2\nhunter3\n", b"hunter2\x00", b"hun\rter2", b"\x1bhunter2"])
def test_a_secret_is_one_line_of_text(tmp_path: Path, content: bytes) -> None:
    path = secret_file(tmp_path, content)
    with pytest.raises(ValueError, match="control character is in password_file") as raised:
        read_secret(path)
    assert "hunter" not in str(raised.value)


def test_a_secret_in_a_variable_is_one_line_of_text_too(tmp_path: Path) -> None:
    hook = {"name": "h", "url": "https://h/x", "bearer_token": "hunter2\r\nX: y"}
    result = check(tmp_path, notify={"webhooks": [hook]})
    assert result.exit_code == 2
    assert "notify.webhooks[0].bearer_token" in result.output
    assert "control character" in result.output
    assert "hunter" not in result.output


def test_a_file_that_is_no_text_is_no_secret(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is no text in UTF-8"):
        read_secret(secret_file(tmp_path, b"\xff\xfe"))


def test_a_secret_in_place_of_its_file_is_not_shown(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"password_file .hidden: .* cannot be read") as raised:
        read_secret(Path("hunter2"))
    assert "hunter2" not in str(raised.value)


def test_on_a_read_only_mount_whose_modes_others_chose_everybody_may_read_a_secret(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    path = secret_file(tmp_path, b"hunter2\n", mode=0o444)
    with pytest.raises(ValueError, match=r"everybody may read .* run chmod o-rwx"):
        read_secret(path)
    fields = list(os.statvfs(path))
    fields[8] |= os.ST_RDONLY
    monkeypatch.setattr(os, "statvfs", lambda _: os.statvfs_result(fields))
    assert [read_secret(path), read_secret(path)] == ["hunter2", "hunter2"]
    assert [record.message for record in caplog.records] == [
        f"everybody may read password_file '{path}', on a read-only mount; mount it with mode 0440"
    ]


def test_a_check_where_the_secrets_are_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HOOK_SECRET", raising=False)
    security = {
        "protocol": "SASL_SSL",
        "sasl_mechanism": "PLAIN",
        "username": "u",
        "password_file": "/run/secrets/absent",
        "ca_file": "${ABSENT}/ca.pem",
        "certificate_file": "/absent.pem",
        "key_file": "/absent.key",
    }
    hook = {"name": "h", "url": "https://h/x", "secret": "${HOOK_SECRET}", "bearer_token_file": "/absent"}
    sections: dict[str, object] = {"kafka": {"security": security}, "notify": {"webhooks": [hook]}}
    assert check(tmp_path, **sections).exit_code == 2
    result = check(tmp_path, "--without-secrets", **sections)
    assert result.exit_code == 0, result.output
    assert "h (signed)" in result.output
    security["username"] = "${ABSENT}"
    result = check(tmp_path, "--without-secrets", **sections)
    assert "kafka.security.username: environment variable ABSENT is not set" in result.output


@pytest.mark.parametrize("path", ["~/bundles", "$HOME/bundles", "~detector"])
def test_what_only_a_shell_replaces_is_refused_in_every_path(tmp_path: Path, path: str) -> None:
    result = check(
        tmp_path,
        kafka=tls(ca_file=Path(path)),
        detectors=[
            {"name": "d", "input": "t", "features": ["cpu"], "store": path, "training": {"files": [path]}}
        ],
        notify={"webhooks": [{"name": "h", "url": "https://h/x", "secret_file": path}]},
    )
    assert result.exit_code == 2
    for key in ("detectors[0].store", "detectors[0].training.files[0]", "kafka.security.ca_file"):
        assert f"{key}: '{path}' is taken as it is" in result.output, result.output
    assert result.output.count("write ${HOME} for ~") == 4
