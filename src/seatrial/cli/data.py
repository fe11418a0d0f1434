"""``seatrial data``: images and datasets."""

from __future__ import annotations

from cyclopts import App

app = App(
    help_format="markdown", name="data", help="Make, check, convert, split and label datasets."
)
# Named, not imported, as in main.py.
COMMANDS = {
    "sample": ("data_sample:app", "Write sample images and labels."),
    "check": ("data_check:check", "Find what is wrong with a dataset."),
    "convert": ("data_write:convert", "Write a dataset in another format."),
    "split": ("data_write:split", "Split a dataset by groups, evenly in every class."),
    "label": ("data_label:label", "Draft labels with a bigger model, for review."),
    "preview": ("data_write:preview", "Draw a contact sheet with boxes."),
}
for name, (target, summary) in COMMANDS.items():
    app.command(f"seatrial.cli.{target}", name=name, help=summary)
