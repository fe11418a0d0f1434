"""Moving pictures: where they come from, and what moves in them."""
