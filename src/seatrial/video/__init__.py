"""Videos: their frames, and the tracks of objects in them."""
