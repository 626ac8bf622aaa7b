"""Views on the tables for terminals and for JSON."""
