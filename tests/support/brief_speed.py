"""What a process imports whose commands are to compare speeds for a moment only.

Seven seconds of all cores, whatever the model; how speeds are compared is tested elsewhere.
"""

from __future__ import annotations

from seatrial.quantise import measure

measure.ROUND_S, measure.ROUNDS = 0.01, 1
