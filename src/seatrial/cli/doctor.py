"""``seatrial doctor``: what this machine has, what works and what is missing."""

from __future__ import annotations

from rich import box
from rich.text import Text

from seatrial.cli.console import home, out, print_json
from seatrial.report.numbers import counted
from seatrial.report.table import Table

COLOURS = {"works": "green", "installed": "green", "missing": "yellow", "broken": "red"}


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
    facts.add_row(
        "processor", f"{cpu.model}: {cpu.cores} of {counted(cpu.cores_online, 'core')}{quota}"
    )
    facts.add_row("instructions", ", ".join(cpu.features) or "none of those that engines use")
    facts.add_row("memory", f"{report.memory_total_gib:.1f} GiB")
    facts.add_row("NVIDIA GPU", report.gpu)
    facts.add_row("python", report.python)
    held = counted(report.artifacts, "artifact")
    facts.add_row("store", f"{report.store} ({held})")
    out.print(facts)
    table = Table(
        "part", "state", "version", "what it can do here", box=box.SIMPLE_HEAD, pad_edge=False
    )
    for part in report.parts:
        state = Text(part.state, COLOURS[part.state])
        table.add_row(part.name, state, part.version, part.detail)
    out.print(table)
    remedies = [(part.name, part.remedy) for part in report.parts if part.remedy]
    if remedies:
        out.print("what to do", style="bold")
    for name, remedy in remedies:  # one line each, to be copied
        out.print(f"  {name}: {remedy}", soft_wrap=True)
