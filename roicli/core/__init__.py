"""What everything stands on: errors, words, parsing and array types."""
