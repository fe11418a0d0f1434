"""Hot path: from the bytes of an image to the bytes of an answer."""
