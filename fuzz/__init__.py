"""Fuzzing of everything that roicli reads: ``make fuzz``. See docs/untrusted_files.md."""
