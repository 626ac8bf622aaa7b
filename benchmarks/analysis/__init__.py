"""From records to tidy tables: throughput, ratios, grades."""
