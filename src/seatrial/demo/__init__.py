"""Web pages that show a detector at work: two front ends over the same modules."""
