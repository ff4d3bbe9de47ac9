"""How arrays stand in files: a file or a package for each format."""
