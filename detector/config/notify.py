"""The ``notify`` section: who is told of alerts, read by ``detector notify`` alone."""

import base64
import binascii
import re
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any, Self
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    SecretStr,
    ValidationInfo,
    field_validator,
    model_validator,
)

from detector.config.files import PathAsWritten, Secret, check_certificates, secrets_are_read, with_secrets
from detector.config.inputs import Name
from detector.config.outputs import ListenAddress, host_and_port
from detector.config.section import Duration, Section, one_or_several

SECRET_PREFIX = "whsec_"  # noqa: S105 - what every secret begins with
OWN_LABELS = ("alertname", "detector", "entity", "severity")
"""Of every alert that is told; a label of the input with such a name would not be."""
_SECRETS = ("password", "bearer_token", "secret")
_PLACEHOLDERS = ("{entity}", "{detector}", "{alert_id}")


def _usable_url(url: str) -> str:
    """Refuse what is no place to post to. No message shows the URL: some have a secret in their path."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        parts, host = urlsplit(""), None
    unprintable = " " in url or not url.isascii() or not url.isprintable()
    if parts.scheme not in ("http", "https") or not host or unprintable:
        raise ValueError("'https://host:port/path' is how to write it: this is no http or https URL")
    if parts.username is not None:
        raise ValueError("'https://host' is how to write it: who we are goes into username and password_file")
    if parts.fragment:
        raise ValueError("'#' begins a part that is never sent; leave it out")
    try:
        link_local = ip_address(host).is_link_local
    except ValueError:
        link_local = False
    if link_local:
        raise ValueError("'169.254.0.0/16' and 'fe80::/10' are link-local: no receiver is there")
    return url


Url = Annotated[str, AfterValidator(_usable_url)]


class ReceiverConfig(Section):
    """What all kinds of receivers have in common."""

    name: Name = Field(description="What metrics and dead letters call it.", examples=["oncall"])
    timeout_s: Duration = Field(10.0, alias="timeout", description="Of one request.")
    give_up_after_s: Duration = Field(
        3600.0, alias="give_up_after", description="A notification that fails so long is a dead letter."
    )
    ca_file: PathAsWritten | None = Field(
        None, description="PEM file of the authorities to trust; the system's without."
    )
    username: str | None = Field(None, description="Of basic authentication.")
    password: Secret | None = Field(None, description="Better as password_file, or ${NAME}.")
    password_file: PathAsWritten | None = Field(None, description="A file with the password alone.")
    bearer_token: Secret | None = Field(None, description="Better as bearer_token_file, or ${NAME}.")
    bearer_token_file: PathAsWritten | None = Field(None, description="A file with the token alone.")

    @model_validator(mode="before")
    @classmethod
    def _secrets_from_files(cls, data: Any, info: ValidationInfo) -> Any:
        return with_secrets(data, _SECRETS, info)

    @field_validator("ca_file")
    @classmethod
    def _ca_file_can_be_used(cls, path: Path | None, info: ValidationInfo) -> Path | None:
        if path is not None and secrets_are_read(info):
            if not path.is_file():
                raise ValueError("no such file; give the PEM file of the receiver's authority")
            check_certificates(path, "the authority")
        return path

    @model_validator(mode="after")
    def _credentials_are_whole(self) -> Self:
        if (self.username is None) != (self.password is None):
            raise ValueError("username and password_file belong together; give both or neither")
        if self.username is not None and self.bearer_token is not None:
            raise ValueError("username and bearer_token are both given; keep one of them")
        if self.timeout_s >= self.give_up_after_s:
            raise ValueError("timeout is not below give_up_after, so nothing would be tried twice; lower it")
        return self


class AlertmanagerConfig(ReceiverConfig):
    """One Alertmanager, or the replicas of one cluster."""

    name: Name = Field("alertmanager", description="What metrics and dead letters call it.")
    urls: Annotated[
        tuple[Url, ...], BeforeValidator(one_or_several, json_schema_input_type=str | tuple[str, ...])
    ] = Field(
        min_length=1,
        description="Every replica by itself, never a load balancer.",
        examples=["[http://alertmanager-0:9093, http://alertmanager-1:9093]"],
    )
    resend_s: Duration = Field(
        60.0,
        alias="resend",
        description="Firing alerts are repeated this often, and end after four times that.",
    )

    @field_validator("urls")
    @classmethod
    def _replicas_differ(cls, urls: tuple[str, ...]) -> tuple[str, ...]:
        if any(urlsplit(url).path.rstrip("/").endswith("/api/v2/alerts") for url in urls):
            raise ValueError("needs no /api/v2/alerts; leave it out, it is added")
        if len({urlsplit(url).netloc for url in urls}) < len(urls):
            raise ValueError("names a replica twice; keep one")
        return urls


class WebhookConfig(ReceiverConfig):
    """A webhook that takes what Alertmanager's webhooks take."""

    url: Url = Field(description="Where it is.", examples=["https://hooks.example.org/alerts"])
    secret: SecretStr | None = Field(
        None,
        description="Of its Standard Webhooks signature, 'whsec_...'; two with a space between while one "
        "replaces the other. Better as secret_file, or ${NAME}.",
    )
    secret_file: PathAsWritten | None = Field(None, description="A file with it alone.")

    @field_validator("secret")
    @classmethod
    def _secret_has_keys(cls, secret: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
        for text in () if secret is None or not secrets_are_read(info) else secret.get_secret_value().split():
            _key(text)
        return secret

    @property
    def keys(self) -> tuple[bytes, ...]:
        """What requests are signed with; none where they are not."""
        return () if self.secret is None else tuple(map(_key, self.secret.get_secret_value().split()))


def _key(secret: str) -> bytes:
    """Return the key that a Standard Webhooks secret is the text of."""
    try:
        key = base64.b64decode(secret.removeprefix(SECRET_PREFIX), validate=True)
    except binascii.Error:
        key = b""
    if not secret.startswith(SECRET_PREFIX) or not 24 <= len(key) <= 64:
        raise ValueError(
            f"is not {SECRET_PREFIX} and the base64 of 24 to 64 bytes; make one with: "
            f'echo "{SECRET_PREFIX}$(openssl rand -base64 32)"'
        )
    return key


class NotifyConfig(Section):
    """``detector notify``: from the alerts topic to people."""

    alertmanagers: tuple[AlertmanagerConfig, ...] = Field(
        (), description="They group, route and silence.", examples=['[{urls: ["http://alertmanager:9093"]}]']
    )
    webhooks: tuple[WebhookConfig, ...] = Field(
        (),
        description="They are told of every alert.",
        examples=['[{name: oncall, url: "https://hooks.example.org/alerts"}]'],
    )
    group_id: str | None = Field(
        None, min_length=1, description="Consumer group; kafka.group_id with -notify behind it without."
    )
    max_alert_age_s: Duration = Field(
        900.0, alias="max_alert_age", description="Older alerts are counted, and wake nobody."
    )
    expire_after_s: Duration = Field(
        86400.0,
        alias="expire_after",
        description="An alert that nothing is heard of for so long is resolved: its scorer may be dead. "
        "Alerts say themselves when they expire, if this version wrote them.",
    )
    generator_url: Url | None = Field(
        None,
        description="Link of every alert, with {entity}, {detector} and {alert_id}.",
        examples=["https://grafana.example.org/d/detector?var-entity={entity}"],
    )
    listen_address: ListenAddress = Field(
        "127.0.0.1:9878", description="Metrics and health of detector notify; port 0 takes a free one."
    )

    @field_validator("generator_url")
    @classmethod
    def _placeholders_are_known(cls, url: str | None) -> str | None:
        for placeholder in re.findall(r"\{[^{}]*\}", url or ""):
            if placeholder not in _PLACEHOLDERS:
                raise ValueError(
                    f"'{placeholder}' is not known; write {', '.join(_PLACEHOLDERS)}, and %7B for a brace"
                )
        return url

    @property
    def address(self) -> tuple[str, int]:
        """Host and port to bind; port 0 takes a free one."""
        return host_and_port(self.listen_address)

    @model_validator(mode="after")
    def _somebody_is_told(self) -> Self:
        names = [receiver.name for receiver in (*self.alertmanagers, *self.webhooks)]
        if not names:
            raise ValueError("tells nobody; add alertmanagers or webhooks")
        if len(set(names)) < len(names):
            raise ValueError("two receivers have the same name; rename one")
        return self
