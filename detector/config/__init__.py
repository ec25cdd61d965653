"""Configuration: one section per file, checked completely before anything starts."""

from detector.config.load import load_config
from detector.config.problem import ConfigError, Problem
from detector.config.root import Config

__all__ = ["Config", "ConfigError", "Problem", "load_config"]
