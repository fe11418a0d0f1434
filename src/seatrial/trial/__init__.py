"""Whether a service holds its contract."""
