"""Two stored results against each other."""
