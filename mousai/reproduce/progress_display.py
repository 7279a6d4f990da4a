"""What `mousai reproduce` shows while it runs: a live table in a terminal, plain lines in a log."""

import sys

from rich.console import Console
from rich.live import Live
from rich.table import Table

from mousai.reproduce.kernel_monitor import Pulse

COLUMNS = ("notebook", "status", "cell", "elapsed", "left", "memory")


class ProgressDisplay:
    """A row for each notebook. usual: seconds that each one is expected to take, 0 where that is unknown."""

    def __init__(self, usual: dict[str, float], terminal: bool | None = None):
        self.usual = usual
        self.rows = {name: ["waiting", "", "", clock(seconds), ""] for name, seconds in usual.items()}
        terminal = sys.stdout.isatty() if terminal is None else terminal
        self.live = Live(console=Console(), get_renderable=self.table, refresh_per_second=1) if terminal else None

    def __enter__(self) -> "ProgressDisplay":
        if self.live:
            self.live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.live:
            self.live.stop()

    def started(self, name: str) -> None:
        """Show that the notebook starts."""
        self.rows[name][0] = "running"
        self.line(f"{name} starts")

    def progress(self, name: str, pulse: Pulse) -> None:
        """Show the cell, the seconds so far and still expected, and the memory."""
        left = self.usual[name] - pulse.seconds
        place = f"{pulse.cell} of {pulse.cells}"
        memory = f"{pulse.memory_gb:.1f} GB"
        self.rows[name][1:] = [place, clock(pulse.seconds), clock(left), memory]
        more = f", about {left:.0f} s left" if left > 0 else ""
        self.line(f"  {name}: cell {place}, {pulse.seconds:.0f} s{more}, {memory}")

    def ended(self, name: str, status: str, seconds: float | None, why: str) -> None:
        """Show how the notebook ended. `why` is the reason where it failed or was skipped, else ""."""
        _, cell, _, _, memory = self.rows[name]
        self.rows[name] = [status, cell, clock(seconds or 0), "", memory]
        took = "" if seconds is None else f" {seconds:.0f} s"
        self.line(f"{name} {status}{took}" + (f": {why}" if why else ""), always=bool(why))

    def line(self, text: str, always: bool = False) -> None:
        """Print a line of the log. In a terminal only lines with `always` are printed, above the table."""
        if self.live is None:
            print(text, flush=True)
        elif always:
            self.live.console.print(text, markup=False, highlight=False)

    def table(self) -> Table:
        """The table as it is now; its caption adds up the expected time of the waiting notebooks."""
        left = sum(self.usual[name] for name, row in self.rows.items() if row[0] == "waiting")
        table = Table(*COLUMNS, box=None, caption=f"about {clock(left)} for notebooks still waiting" if left else None)
        for name, row in self.rows.items():
            table.add_row(name, *row)
        return table


def clock(seconds: float) -> str:
    """ "7:05", in minutes and seconds; "" for 0 or less."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}" if seconds > 0 else ""
