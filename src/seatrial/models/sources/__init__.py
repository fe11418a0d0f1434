"""Sources of models that have a name of their own; one table."""
