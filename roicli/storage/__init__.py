"""Where arrays live: addresses, readers, and writers that never leave half a result."""
