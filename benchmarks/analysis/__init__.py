"""Turns records into tidy tables: throughput, ratios, grades."""
