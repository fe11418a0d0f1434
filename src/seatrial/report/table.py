"""Tables on a terminal: no word and no figure is cut, however narrow the terminal is."""

from __future__ import annotations

from collections.abc import Iterator

import rich.table
from rich.console import Console, ConsoleOptions, RenderResult
from rich.measure import Measurement
from rich.text import Text

UNLIMITED = 100_000  # columns: measures a table as if nothing limited it


class Table(rich.table.Table):
    """A table that wraps between words alone; where they do not fit, its rows become lists.

    In a pipe or a file it is as wide as its words need. Headers and cells are strings or `Text`.
    """

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """The table, or a list for each row."""
        everything = options.update(max_width=UNLIMITED)
        need = Measurement.get(console, everything, self)
        room = options.max_width
        if need.maximum <= room:
            yield from super().__rich_console__(console, options)
            return
        columns = [self._words(console, everything, index) for index in range(len(self.columns))]
        borders = need.maximum - sum(one.maximum for one in columns)
        least = sum(one.minimum for one in columns) + borders
        if least > room and console.is_terminal and self.show_header:
            yield from self._lists()
            return
        room = max(room, least)
        widths = [column.width for column in self.columns]
        try:
            for column, width in zip(self.columns, _shared(columns, room - borders), strict=True):
                column.width = width
            yield from super().__rich_console__(console, options.update(max_width=room))
        finally:
            for column, own in zip(self.columns, widths, strict=True):
                column.width = own

    def _words(self, console: Console, options: ConsoleOptions, index: int) -> Measurement:
        """Width of a column's longest word, and that of its longest line."""
        column = self.columns[index]
        texts = [*column.cells, *([column.header] if self.show_header else [])]
        found = [Measurement.get(console, options, text) for text in texts]
        widest = max((one.maximum for one in found), default=0)
        word = widest if column.no_wrap else max((one.minimum for one in found), default=0)
        return Measurement(word, widest)

    def _lists(self) -> Iterator[Text]:
        """Each row as lines ``header: value``, which are not wrapped here."""
        headers = [_text(column.header) for column in self.columns]
        longest = max(map(len, headers))
        rows = zip(*(column.cells for column in self.columns), strict=True)
        for row in rows:
            for header, cell in zip(headers, row, strict=True):
                name = Text(header.plain.ljust(longest) + "  ", style="bold", end="")
                value = Text("\n" + " " * (longest + 2)).join(_text(cell).split("\n"))
                yield Text.assemble(name, value, overflow="ignore", no_wrap=True)
            yield Text()
        if self.caption is not None:
            yield _text(self.caption)


def _shared(columns: list[Measurement], room: int) -> list[int]:
    """Widths that add up to the room at most: each has its words, the rest goes to the narrow."""
    widths = [one.minimum for one in columns]
    spare = room - sum(widths)
    order = sorted(range(len(columns)), key=lambda i: columns[i].maximum - columns[i].minimum)
    for place, index in enumerate(order):
        share = spare // (len(order) - place)
        more = min(columns[index].maximum - columns[index].minimum, share)
        widths[index] += more
        spare -= more
    return widths


def _text(value: object) -> Text:
    return value if isinstance(value, Text) else Text(str(value))
