"""One self-contained page about all RoIs."""
