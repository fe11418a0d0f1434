"""Benchmarks of a service: scenarios, measurements, findings, report."""
