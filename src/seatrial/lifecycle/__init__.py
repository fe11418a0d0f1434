"""Cold path: from one artifact to the next."""
