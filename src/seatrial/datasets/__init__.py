"""Labelled pictures: read, made, checked, converted, split and shown."""
