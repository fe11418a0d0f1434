"""From a source (a name, a file, a hub) to an artifact in the store."""
