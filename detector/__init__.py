"""Anomaly detection on Kafka topics: likelihood in, p-values and alerts out."""

__version__ = "0.1.0"
