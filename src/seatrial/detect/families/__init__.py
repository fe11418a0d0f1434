"""Model families: what their files look like and what their outputs mean."""
