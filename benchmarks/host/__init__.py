"""The machine: what it is, what state it is in, what else it does, and what none can do."""
