"""The ``outputs``, ``web`` and ``logging`` sections: where answers, numbers and messages go."""

from typing import Literal

from pydantic import Field, field_validator

from detector.config.inputs import Topic
from detector.config.section import Section


class OutputsConfig(Section):
    """Topics that the daemon writes."""

    scores_topic: Topic | None = Field(None, description="A score for every record; none without.")
    alerts_topic: Topic = Field("detector.alerts", description="Alert events, CloudEvents 1.0.")
    dead_letter_topic: Topic = Field(
        "detector.dlq", description="Records that cannot be read, with the reason."
    )


class WebConfig(Section):
    """The one HTTP port: /metrics and health."""

    listen_address: str = Field(
        "127.0.0.1:9877", description="host:port; port 0 takes a free one.", examples=["0.0.0.0:9877"]
    )
    entity_series: int = Field(
        1000, ge=0, le=100_000, description="At most so many entities have a score series of their own."
    )

    @field_validator("listen_address")
    @classmethod
    def _has_host_and_port(cls, address: str) -> str:
        host, _, port = address.rpartition(":")
        if not host or not port.isdigit() or int(port) > 65535:
            raise ValueError(
                "is not host:port; write it like '127.0.0.1:9877', or '0.0.0.0:9877' for every interface"
            )
        return address

    @property
    def host(self) -> str:
        """The address to bind, without brackets."""
        return self.listen_address.rpartition(":")[0].strip("[]")

    @property
    def port(self) -> int:
        """0 takes a free one."""
        return int(self.listen_address.rpartition(":")[2])


class LoggingConfig(Section):
    """One event a line, on stderr."""

    level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="The least important shown."
    )
    format: Literal["json", "console"] = Field("json", description="For machines, or for people.")
