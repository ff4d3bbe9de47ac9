"""Which convention made a stored result."""
