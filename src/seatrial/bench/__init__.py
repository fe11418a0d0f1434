"""Measuring a service over the wire."""
