"""The ``kafka`` section: which brokers, which client, as which group, with which credentials."""

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationInfo, field_validator, model_validator

from detector.config.files import (
    PathAsWritten,
    Secret,
    check_certificates,
    check_key,
    refuse_what_everybody_reads,
    secrets_are_read,
    with_secrets,
)
from detector.config.problem import shown
from detector.config.section import CommaSeparated, Duration, Section

SecurityProtocol = Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"]


class SecurityConfig(Section):
    """How the connection to the brokers is protected, and who we are."""

    protocol: SecurityProtocol = Field("PLAINTEXT", description="How to talk to the brokers.")
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] | None = Field(
        None, description="How to log in, with a SASL protocol."
    )
    username: str | None = Field(None, description="Who logs in.")
    password: Secret | None = Field(None, description="Better as password_file, or ${KAFKA_PASSWORD}.")
    password_file: PathAsWritten | None = Field(
        None, description="A file with the password alone, which not everybody may read."
    )
    ca_file: PathAsWritten | None = Field(
        None, description="PEM file of the authorities to trust; the system's without."
    )
    certificate_file: PathAsWritten | None = Field(
        None, description="PEM file of our certificate, where brokers ask for one; with key_file."
    )
    key_file: PathAsWritten | None = Field(
        None, description="PEM file of its key, unencrypted, which not everybody may read."
    )

    @model_validator(mode="before")
    @classmethod
    def _password_from_file(cls, data: Any, info: ValidationInfo) -> Any:
        return with_secrets(data, ("password",), info)

    @field_validator("ca_file", "certificate_file", "key_file")
    @classmethod
    def _file_exists(cls, path: Path | None, info: ValidationInfo) -> Path | None:
        if path is not None and secrets_are_read(info) and not path.is_file():
            raise ValueError(f"no such file; give the PEM file of {_WHOSE[info.field_name or '']}")
        return path

    @model_validator(mode="after")
    def _credentials_fit_the_protocol(self, info: ValidationInfo) -> Self:
        sasl = self.protocol.startswith("SASL_")
        given = [n for n in ("sasl_mechanism", "username", "password") if getattr(self, n) is not None]
        if sasl and len(given) < 3:
            absent = [n for n in ("sasl_mechanism", "username", "password") if n not in given]
            raise ValueError(f"protocol {self.protocol} also needs {', '.join(absent)}; add them")
        if not sasl and given:
            raise ValueError(
                f"{', '.join(given)} would not be used with protocol {self.protocol}; "
                f"write protocol: SASL_SSL, or remove them"
            )
        files = [n for n in _WHOSE if getattr(self, n) is not None]
        if files and not self.protocol.endswith("SSL"):
            raise ValueError(
                f"{', '.join(files)} would not be used with protocol {self.protocol}; "
                "write protocol: SSL or SASL_SSL"
            )
        if (self.certificate_file is None) != (self.key_file is None):
            raise ValueError("certificate_file and key_file belong together; give both, or neither")
        if secrets_are_read(info):
            self._read_certificates()
        return self

    def _read_certificates(self) -> None:
        """Find what a client would find only when it connects, or would ask a terminal about."""
        if self.key_file is not None:
            refuse_what_everybody_reads(self.key_file, f"key_file {str(self.key_file)!r}")
        for name in ("ca_file", "certificate_file"):
            path = getattr(self, name)
            if path is not None:
                check_certificates(path, _WHOSE[name], f"{name} {str(path)!r} ")
        if self.certificate_file is not None and self.key_file is not None:
            check_key(self.certificate_file, self.key_file)


_WHOSE = {
    "ca_file": "the brokers' authority",
    "certificate_file": "our certificate",
    "key_file": "its key",
}


class KafkaConfig(Section):
    """Where records come from and where answers go."""

    bootstrap_servers: CommaSeparated = Field(
        ("localhost:9092",),
        min_length=1,
        description="Brokers to ask first, host:port.",
        examples=["kafka-1:9092"],
    )
    client: Literal["kafka-python", "confluent"] = Field(
        "kafka-python", description="confluent is several times faster and needs the extra of that name."
    )
    group_id: str = Field(
        "detector", min_length=1, description="Replicas with the same one share the partitions."
    )
    instance_id: str | None = Field(
        None,
        min_length=1,
        description="A name of this replica: restarts within session_timeout move no partition.",
    )
    processing_guarantee: Literal["at_least_once", "exactly_once"] = Field(
        "at_least_once", description="What a crash may do to outputs: at_least_once may repeat some."
    )
    start_from: Literal["earliest", "latest"] = Field(
        "earliest", description="Where a group that never committed begins."
    )
    session_timeout_s: Annotated[Duration, Field(ge=6, le=45)] = Field(
        10.0,
        alias="session_timeout",
        description="Silence after which others take over our partitions, 6s to 45s.",
    )
    compression: Literal["none", "gzip", "snappy", "lz4", "zstd"] = Field(
        "none", description="Of what we write; everything is read."
    )
    security: SecurityConfig = Field(
        default_factory=SecurityConfig, description="TLS and credentials.", examples=["{protocol: SSL}"]
    )

    @field_validator("bootstrap_servers")
    @classmethod
    def _servers_have_ports(cls, servers: tuple[str, ...]) -> tuple[str, ...]:
        for server in servers:
            what = shown((), server)
            _, has_scheme, address = server.rpartition("://")
            if has_scheme:
                address = address.partition("/")[0].rpartition("@")[2]
                raise ValueError(
                    f"{what} has a scheme; write it like {address!r}, and how to talk "
                    "to the brokers as security.protocol"
                )
            if "@" in server:
                raise ValueError(
                    f"{what} is not host:port; who we are goes into security.username and .password_file"
                )
            host, _, port = server.rpartition(":")
            if not host or not port.isdigit() or not 0 < int(port) < 65536:
                raise ValueError(f"{what} has no port; write it like 'kafka-1:9092'")
        return servers

    @field_validator("processing_guarantee")
    @classmethod
    def _guarantee_exists(cls, guarantee: str) -> str:
        if guarantee == "exactly_once":
            raise ValueError(
                "does not exist yet; write at_least_once: nothing is lost, and after a crash some outputs "
                "come twice, with the same id"
            )
        return guarantee
