"""A process that compiles one function for the others to load: its name and dtype are given."""

import sys

from roicli.runtime.native.kernels import kernel

if __name__ == "__main__":
    kernel(*sys.argv[1:])
