"""The filters that a dataset's chunks went through, and what brings those that are not built in."""

from __future__ import annotations

import importlib
import importlib.util

import h5py

from roicli.core.exceptions import InputError, MissingPackageError

BUILT_IN_NAMES = {
    h5py.h5z.FILTER_DEFLATE: "gzip",
    h5py.h5z.FILTER_SHUFFLE: "shuffle",
    h5py.h5z.FILTER_FLETCHER32: "fletcher32",
    h5py.h5z.FILTER_SZIP: "szip",
    h5py.h5z.FILTER_NBIT: "nbit",
    h5py.h5z.FILTER_SCALEOFFSET: "scaleoffset",
    h5py.h5z.FILTER_LZF: "lzf",
}
# Registered with The HDF Group, and in the package hdf5plugin.
PLUGIN_NAMES = {
    307: "bzip2",
    32001: "blosc",
    32004: "lz4",
    32008: "bitshuffle",
    32013: "zfp",
    32015: "zstd",
    32017: "sz",
    32018: "fcidecomp",
    32024: "sz3",
    32026: "blosc2",
    32028: "sperr",
}
PLUGIN_PACKAGE = "hdf5plugin"


def list_filters(dataset: h5py.Dataset) -> list[tuple[int, str]]:
    """Number and name of each filter, in the order in which they were applied."""
    plist = dataset.id.get_create_plist()
    found = []
    for index in range(plist.get_nfilters()):
        code, _, values, name = plist.get_filter(index)
        text = BUILT_IN_NAMES.get(code) or PLUGIN_NAMES.get(code)
        if text is None:  # numbers below 256 are HDF5's own and have no name in the file
            named = name.decode(errors="replace") if code >= 256 else ""
            text = named or f"filter {code}"
        found.append((code, f"{text} {values[0]}" if text == "gzip" and values else text))
    return found


def check_filters(dataset: h5py.Dataset, name: str) -> None:
    """Raise InputError or MissingPackageError for a filter that cannot be undone here.

    The package hdf5plugin is imported where it is installed and a filter needs it. No file says
    what is loaded: beyond that HDF5 looks only where its own HDF5_PLUGIN_PATH points.
    """
    for code, text in list_filters(dataset):
        if code in BUILT_IN_NAMES and h5py.h5z.filter_avail(code):
            continue
        if importlib.util.find_spec(PLUGIN_PACKAGE):
            importlib.import_module(PLUGIN_PACKAGE)
        if not h5py.h5z.filter_avail(code):
            what = f"{name}: is compressed with {text} (HDF5 filter {code}), which is not built in"
            if code in PLUGIN_NAMES:
                raise MissingPackageError(what, f"pip install {PLUGIN_PACKAGE}")
            raise InputError(what, "install its plugin, or save the dataset with gzip")
