"""The drawing kit of all reports: charts, numbers and style of pages that open offline."""
