"""Seatrial: an object detector from weights to a service that is proven before it ships."""

__version__ = "0.1.0"
