"""Name, colour and icon of the pages."""

from __future__ import annotations

import base64
from html import escape
from pathlib import Path

ICON = Path(__file__).with_name("icon.svg")
ACCENT = "#0b6a8a"  # --accent of the reports
# From light to dark, with the accent in the middle.
SHADES = (
    "#eef7fa", "#d6ebf2", "#aed7e5", "#7bbdd3", "#3f9cba", ACCENT,
    "#095a76", "#084b62", "#073d50", "#06303f", "#041f29",
)  # fmt: skip
STYLE = """
.seatrial-head { display: flex; align-items: center; gap: 0.75rem; }
.seatrial-head img { width: 2.75rem; height: 2.75rem; margin: 0; }
.seatrial-head p { margin: 0; line-height: 1.2; font-size: 0.85rem; opacity: 0.7; }
.seatrial-head h1 { margin: 0; padding: 0; line-height: 1.2; font-size: 1.5rem; font-weight: 600; }
.seatrial-head h1 { overflow-wrap: anywhere; }
"""


def header(name: str) -> str:
    """Icon, name of the tool and name of the model, as HTML."""
    icon = base64.b64encode(ICON.read_bytes()).decode()
    return (
        f'<style>{STYLE}</style><div class="seatrial-head">'
        f'<img src="data:image/svg+xml;base64,{icon}" alt="">'
        f"<div><p>Seatrial</p><h1>{escape(name)}</h1></div></div>"
    )
