"""Runs on a Dask cluster: who is there, what they are given, and what becomes of it."""
