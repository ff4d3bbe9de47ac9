"""The version, apart so that ``--version`` imports nothing."""

__version__ = "0.2.0"
