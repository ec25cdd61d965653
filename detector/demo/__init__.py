"""The demonstration: real telemetry, an embedded broker, the real daemon, and what it found."""
