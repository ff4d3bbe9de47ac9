"""The commands, a short file each."""
