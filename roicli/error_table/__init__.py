"""The errors of rounding: columns, arithmetic, tables, summaries and writers."""
