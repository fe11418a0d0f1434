"""The Python API that ``import seatrial`` gives: see `seatrial.load`, docs/reference/python.md."""
