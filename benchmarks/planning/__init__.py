"""From overrides to a plan: what runs, what is skipped and why."""
