"""Pages that open offline: drawing and style that all reports share."""
