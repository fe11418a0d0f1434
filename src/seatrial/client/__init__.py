"""The way to a running service: addresses, connections, deadlines, retries, answers."""
