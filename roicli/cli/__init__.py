"""The command line: one short file a command, every option declared once in ``options``."""
