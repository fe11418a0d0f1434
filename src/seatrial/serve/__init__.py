"""The service around the request path."""
