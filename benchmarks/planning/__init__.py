"""Makes a plan from overrides: what runs, what is skipped and why."""
