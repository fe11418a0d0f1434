"""What the service understands on the wire."""
