"""Zarr stores in and out; each module imports the library only when a store is met."""
