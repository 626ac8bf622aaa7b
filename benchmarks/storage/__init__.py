"""The append-only store of plans and records."""
