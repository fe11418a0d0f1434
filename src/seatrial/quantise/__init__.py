"""INT8: from a float32 artifact to a quantised one that keeps its accuracy, or to none."""
