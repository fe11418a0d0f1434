"""Hot path: from the bytes of a picture to the bytes of an answer."""
