"""Files that a configuration names: their paths, secrets alone in a file, and certificates."""

import logging
import os
import re
import ssl
import stat
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Annotated, Any, NoReturn

from pydantic import AfterValidator, BeforeValidator, SecretStr, ValidationInfo

WITHOUT_SECRETS = "without_secrets"
"""In the context of a validation: neither secrets nor certificates are read."""
_SHELL = re.compile(r"^~|\$[A-Za-z_]")

_log = logging.getLogger(__name__)


def _no_shell(path: object) -> object:
    if isinstance(path, str) and _SHELL.search(path):
        raise ValueError(
            "is taken as it is, since no shell reads it; write ${HOME} for ~, and ${NAME} for $NAME"
        )
    return path


def _whole(secret: SecretStr) -> SecretStr:
    refuse_control_characters(secret.get_secret_value(), "it")
    return secret


PathAsWritten = Annotated[Path, BeforeValidator(_no_shell, json_schema_input_type=str)]
"""A path without what only a shell replaces."""
FileName = Annotated[str, BeforeValidator(_no_shell)]
"""The same as text."""
Secret = Annotated[SecretStr, AfterValidator(_whole)]
"""One line of text that is shown nowhere."""


def secrets_are_read(info: ValidationInfo) -> bool:
    """Return whether secrets and certificates are there to be read."""
    return not (info.context or {}).get(WITHOUT_SECRETS, False)


def with_secrets(data: Any, names: Iterable[str], info: ValidationInfo) -> Any:
    """Return a section as written, with secrets that are in files of their own beside their ``..._file``.

    Raises:
        ValueError: A secret is given twice, or its file cannot be used.
    """
    if not isinstance(data, dict):
        return data
    for name in names:
        file = data.get(f"{name}_file")
        if not isinstance(file, str):
            continue
        if data.get(name) is not None:
            raise ValueError(f"{name} and {name}_file are both given; keep {name}_file")
        _no_shell(file)
        secret = read_secret(Path(file), f"{name}_file") if secrets_are_read(info) else "not read"
        data = data | {name: secret}
    return data


def refuse_control_characters(secret: str, what: str) -> None:
    """Refuse what no header and no login can hold.

    Raises:
        ValueError: A character is a line break, or another one that is not printed; which is not said.
    """
    if any(ord(character) < 32 or ord(character) == 127 for character in secret):
        raise ValueError(f"a line break or another control character is in {what}; write it on one line")


def read_secret(path: Path, key: str = "password_file") -> str:
    """Return the content of a secret's file without the line end.

    Args:
        path: Of the file.
        key: Of the configuration, for messages.

    Raises:
        ValueError: It cannot be read, is empty or no line of text, or everybody may read it.
    """
    # Who writes the secret itself there should not find it in a log.
    name = f"{key} {repr(str(path)) if path.is_absolute() else '(hidden: no absolute path)'}"
    try:
        refuse_what_everybody_reads(path, name)
        secret = path.read_text(encoding="utf-8").rstrip("\r\n")
    except OSError as error:
        raise ValueError(f"{name} cannot be read: {error.strerror}; check the path") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{name} is no text in UTF-8; write the secret into it") from error
    if not secret:
        raise ValueError(f"{name} is empty; write the {key.removesuffix('_file')} into it")
    refuse_control_characters(secret, name)
    return secret


def refuse_what_everybody_reads(path: Path, name: str) -> None:
    """Refuse a file that everybody may read; on a read-only mount, whose modes others chose, warn of it.

    Raises:
        ValueError: Its mode could be another one.
        OSError: There is no such file.
    """
    if not stat.S_IMODE(path.stat().st_mode) & stat.S_IROTH:
        return
    if not os.statvfs(path).f_flag & os.ST_RDONLY:
        raise ValueError(f"everybody may read {name}; run chmod o-rwx on it")
    _warn_once(f"everybody may read {name}, on a read-only mount; mount it with mode 0440")


@cache
def _warn_once(message: str) -> None:
    """A configuration is validated several times."""
    _log.warning(message)


def check_certificates(path: Path, whose: str, name: str = "") -> None:
    """Raise unless a PEM file holds certificates.

    Args:
        path: Of the file.
        whose: They should be.
        name: What messages begin with, where nothing else says which file it is.

    Raises:
        ValueError: It does not.
    """
    try:
        _tls().load_verify_locations(path)
    except OSError as error:
        reason = _unreadable(error) or "holds no certificate"
        raise ValueError(f"{name}{reason}; give the PEM file of {whose}") from error


def check_key(certificate: Path, key: Path) -> None:
    """Raise unless a PEM file holds the key of a certificate, in clear.

    Raises:
        ValueError: It does not.
    """
    try:
        _tls().load_cert_chain(certificate, key, password=_refuse_encrypted)
    except OSError as error:
        reason = _unreadable(error) or "holds no key that can be used"
        if isinstance(error, ssl.SSLError) and error.reason == "KEY_VALUES_MISMATCH":
            reason = "is the key of another certificate than certificate_file"
        raise ValueError(f"key_file {str(key)!r} {reason}; give the PEM file of its key") from error


def _unreadable(error: OSError) -> str:
    """Return that a file cannot be read, and why; empty where it could be."""
    return "" if isinstance(error, ssl.SSLError) else f"cannot be read: {error.strerror}"


def _tls() -> ssl.SSLContext:
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def _refuse_encrypted() -> NoReturn:
    raise ValueError("key_file is encrypted, and nobody is there to be asked; give it without a pass phrase")
