"""Puts load on a service and measures what it answers."""
