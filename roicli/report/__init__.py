"""Records to text: rich tables for a terminal, JSON, CSV and Markdown for programs."""
