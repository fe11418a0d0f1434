"""Labelled images: read, made, checked, converted, split and shown."""
