"""Triton: a model repository of a deployment, the code that runs in it, and the server."""
