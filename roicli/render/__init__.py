"""Records as terminal tables, JSON, figures and pages."""
