"""Engines: arrays in, arrays out."""
