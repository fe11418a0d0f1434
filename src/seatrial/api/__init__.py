"""What ``import seatrial`` offers to programs: see `seatrial.load` and docs/reference/python.md."""
