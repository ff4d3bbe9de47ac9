"""HDF5 files in and out; the library is imported when the first of these modules is."""
