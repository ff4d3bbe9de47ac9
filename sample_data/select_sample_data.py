"""Cut the sample pyramid from the full one: levels p3, p4 and p5, with chunks and attributes."""

import sys

import h5py

LEVELS = ("p3", "p4", "p5")


def select_levels(source: str, target: str) -> None:
    """Copy the levels and the file's own attributes."""
    with h5py.File(source, "r") as full, h5py.File(target, "w") as sample:
        for level in LEVELS:
            full.copy(level, sample)
        sample.attrs.update(full.attrs)


if __name__ == "__main__":
    select_levels(*sys.argv[1:])
