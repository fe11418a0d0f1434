"""A project of one's own, from templates."""
