"""What a person sees while a grid runs: a live table in a terminal, plain lines elsewhere."""

import time
from collections import Counter
from contextlib import suppress

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from bench import results
from bench.grid import Cell
from bench.presets import Preset
from bench.worker import REFUSED, Event, Job

TOLD = ("hyperparameters", "optimizer", "sampling", "schedule")  # of how a run is trained, where it isn't as in make bench
SYMBOLS = {"waiting": ("·", "dim"), "running": ("▶", "cyan"), "done": ("✓", "green"), "diverged": ("↯", "yellow"), "failed": ("✗", "bold red")}


def duration(seconds: float) -> str:
    """Seconds for people: 7 s, 3 min 05 s, 2 h 10 min."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    if seconds < 3600:
        return f"{seconds // 60:.0f} min {seconds % 60:02.0f} s"
    return f"{seconds // 3600:.0f} h {seconds % 3600 // 60:02.0f} min"


Key = tuple[Cell, int | None]  # a run: its cell, whose preset tells it from all others, and its seed


def _row(job: Job, usual_steps: int) -> str:
    """The model of a job; in a search at a learning rate; and where it is trained in another way, or for longer than most, how."""
    preset, usual = job.cell.preset, Preset()
    rate = f" at {preset.learning_rate:g}" if job.kind == "tune" else ""
    other = [str(getattr(preset, name)) for name in TOLD if getattr(preset, name) != getattr(usual, name)]
    other += [f"{preset.steps} steps"] if preset.steps != usual_steps else []
    return job.cell.model + rate + (f" ({', '.join(other)})" if other else "")


class Progress:
    """Follows the events of a grid. Use as a context; `title` says what runs."""

    def __init__(self, title: str, jobs: list[Job], workers: int, console: Console, already_done: int = 0):
        self.title, self.workers, self.console, self.already_done = title, workers, console, already_done
        usual_steps = Counter(job.cell.preset.steps for job in jobs).most_common(1)[0][0]
        self.rows = {job.cell: _row(job, usual_steps) for job in jobs}
        self.state: dict[Key, str] = {(job.cell, seed): "waiting" for job in jobs for seed in job.seeds}
        self.running: dict[Key, dict] = {}
        self.seconds: dict[Cell, list[float]] = {}  # of finished runs
        self.start = time.monotonic()
        # live tables need a terminal; a refresh twice a second costs a worker nothing
        self.live = Live(get_renderable=self._render, console=console, refresh_per_second=2) if console.is_terminal else None

    def _title(self, key: Key) -> str:
        cell, seed = key
        return f"{cell.system} x {self.rows[cell]}{'' if seed is None else f' seed {seed}'}"

    def __enter__(self):
        if self.live:
            self.live.start()
        else:
            self.console.print(f"{self.title}: {len(self.state)} to do, {self.already_done} done before, {self.workers} workers")
        return self

    def __exit__(self, *_):
        if self.live:
            with suppress(OSError):  # the terminal may be gone
                self.live.stop()

    def tell(self, job: Job, event: Event) -> None:
        """Takes note of an event."""
        key = job.cell, event.seed
        if event.what == "started":
            self.state[key] = "running"
            self.running[key] = {"since": time.monotonic(), "doing": "compiling"}
        elif event.what == "step":
            entry = self.running[key]
            now = time.monotonic()
            if "first" in entry:
                rate = (event.step - entry["first"][0]) / (now - entry["first"][1])
                entry["doing"] = f"step {event.step}/{job.cell.preset.steps}  loss {event.value:.3g}  {rate:.0f} steps/s"
            else:  # the first chunk contains the compilation
                entry["first"] = (event.step, now)
                entry["doing"] = f"step {event.step}/{job.cell.preset.steps}  loss {event.value:.3g}"
        elif event.what == "evaluating":
            self.running[key]["doing"] = "evaluating"
        elif event.what == "done":
            entry = self.running.pop(key, {"since": time.monotonic()})
            seconds = time.monotonic() - entry["since"]
            lost = event.status in (*results.LOST, REFUSED)
            self.state[key] = "failed" if lost else event.status if event.status == "diverged" else "done"
            if not lost:
                self.seconds.setdefault(job.cell, []).append(seconds)
            if not self.live or self.state[key] != "done":
                finished = sum(s not in ("waiting", "running") for s in self.state.values())
                text = (
                    f"{event.status}: {event.why}"
                    if lost
                    else f"diverged in training, {duration(seconds)}"
                    if event.status == "diverged"
                    else duration(seconds)
                )
                self._print(f"[{finished}/{len(self.state)}] {self._title(key)}: {text}, {duration(self.left())} left")
        elif event.what == "note":
            about = job.cell.system if event.seed == -1 else self._title(key)
            self._print(f"{about}: {event.why}")

    def _print(self, line: str) -> None:
        self.console.print(line, highlight=False, markup=False, soft_wrap=True)

    def left(self) -> float:
        """Estimate of the time left [s], from finished runs of the same cell, else from what a step took in all of them."""
        steps = sum(cell.preset.steps * len(seconds) for cell, seconds in self.seconds.items())
        a_step = sum(map(sum, self.seconds.values())) / steps if steps else 0.0
        total = 0.0
        for key, state in self.state.items():
            if state in ("waiting", "running"):
                own = self.seconds.get(key[0])
                expected = sum(own) / len(own) if own else a_step * key[0].preset.steps
                since = self.running.get(key, {}).get("since")
                total += max(0.0, expected - (time.monotonic() - since if since else 0.0))
        return total / max(1, self.workers)

    def _render(self) -> Group:
        systems = list(dict.fromkeys(cell.system for cell, _ in self.state))
        names = list(dict.fromkeys(self.rows[cell] for cell, _ in self.state))
        table = Table(box=None, padding=(0, 2, 0, 0))
        table.add_column("")
        for system in systems:
            table.add_column(system)
        for model in names:
            cells = []
            for system in systems:
                text = Text()
                for (cell, _), state in self.state.items():
                    if (cell.system, self.rows[cell]) == (system, model):
                        text.append(*SYMBOLS[state])
                cells.append(text)
            table.add_row(model, *cells)
        finished = sum(s not in ("waiting", "running") for s in self.state.values())
        left = f"about {duration(self.left())} left" if self.seconds else "time left not known yet"
        lines = [
            f"{finished} of {len(self.state)} done, {self.already_done} were done before, {duration(time.monotonic() - self.start)} so far, {left}"
        ]
        for key, entry in self.running.items():
            lines.append(f"▶ {self._title(key)}: {entry['doing']}")
        lines.append("✓ done  ▶ running  · waiting  ↯ diverged  ✗ failed: one sign a seed")
        return Group(Text(self.title, style="bold"), table, *(Text(line) for line in lines))
