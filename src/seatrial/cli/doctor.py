"""``seatrial doctor``: what this machine has, what works, what is missing."""

from __future__ import annotations

from rich.table import Table
from rich.text import Text

from seatrial.cli.console import home, out, print_json


def doctor(*, json: bool = False) -> None:
    """Show hardware, engines, execution providers, what works and what is missing.

    Args:
        json: Print JSON.
    """
    import msgspec

    from seatrial.doctor import examine

    report = examine(home())
    if json:
        print_json(msgspec.to_builtins(report))
        return
    cpu = report.cpu
    quota = f", cgroup quota {cpu.quota_cores:g}" if cpu.quota_cores is not None else ""
    facts = Table(show_header=False, box=None, padding=(0, 2))
    facts.add_row("processor", f"{cpu.model}: {cpu.cores} of {cpu.cores_online} cores{quota}")
    facts.add_row("instructions", ", ".join(cpu.features) or "none that matter here")
    facts.add_row("memory", f"{report.memory_total_gib:.1f} GiB")
    facts.add_row("NVIDIA GPU", report.gpu)
    facts.add_row("python", report.python)
    facts.add_row("store", f"{report.store} ({report.artifacts} artifacts)")
    out.print(facts)
    table = Table("part", "state", "version", "what works", "what to do")
    for part in report.parts:
        colour = {"works": "green", "missing": "yellow", "broken": "red"}[part.state]
        table.add_row(
            part.name, Text(part.state, colour), part.version, Text(part.detail), Text(part.remedy)
        )
    out.print(table)
