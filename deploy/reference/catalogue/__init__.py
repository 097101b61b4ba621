"""What every condition, reason and Event means, and what to do: `docs/reference/status.md`."""
