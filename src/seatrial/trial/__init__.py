"""Measurements of a service against its contract."""
