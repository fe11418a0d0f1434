"""Runtimes that start the service."""
