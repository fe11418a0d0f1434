"""Protocols: bytes on the wire to requests, and answers to bytes."""
