"""The ``outputs``, ``web`` and ``logging`` sections: where answers, numbers and messages go."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from detector.config.inputs import Topic
from detector.config.section import Section


def _has_host_and_port(address: str) -> str:
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit() or int(port) > 65535:
        raise ValueError(
            "is not host:port; write it like '127.0.0.1:9877', or '0.0.0.0:9877' for every interface"
        )
    return address


ListenAddress = Annotated[str, AfterValidator(_has_host_and_port)]
"""host:port to bind; port 0 takes a free one."""


def host_and_port(address: str) -> tuple[str, int]:
    """Return what to bind: the host without brackets, and the port."""
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)


class OutputsConfig(Section):
    """Topics that the daemon writes."""

    scores_topic: Topic | None = Field(None, description="A score for every record; none without.")
    alerts_topic: Topic = Field("detector.alerts", description="Alert events, CloudEvents 1.0.")
    dead_letter_topic: Topic = Field(
        "detector.dlq", description="Records that cannot be read, with the reason."
    )


class WebConfig(Section):
    """The one HTTP port: /metrics and health."""

    listen_address: ListenAddress = Field(
        "127.0.0.1:9877", description="host:port; port 0 takes a free one.", examples=["0.0.0.0:9877"]
    )
    entity_series: int = Field(
        1000, ge=0, le=100_000, description="At most so many entities have a score series of their own."
    )

    @property
    def host(self) -> str:
        """The address to bind, without brackets."""
        return host_and_port(self.listen_address)[0]

    @property
    def port(self) -> int:
        """0 takes a free one."""
        return host_and_port(self.listen_address)[1]


class LoggingConfig(Section):
    """One event a line, on stderr."""

    level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="The least important shown."
    )
    format: Literal["json", "console"] = Field("json", description="For machines, or for people.")
