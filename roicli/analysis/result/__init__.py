"""Stored results of any runtime: which axes they have, and which RoI each row is of."""
