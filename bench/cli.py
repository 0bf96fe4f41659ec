"""The command line: `python -m bench run | table1 | published | table | pack | unpack | list | ...`."""

import io
import re
import shlex
import signal
import sys
from contextlib import redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
from rich.console import Console

import models
import systems
from bench import accept, clean, derived, doctor, gate, grid, pack, pool, presets, results, sealed, sheet, speed, table1, tables, ticks
from bench.data import DataError
from bench.floors import FLOORS
from bench.locks import Busy
from bench.presets import PRESETS, Preset
from bench.run import Unwritable, require_not_reference, run, run_published, run_table1
from bench.times import GateError
from bench.tune import tune
from bench.verdicts import ENOUGH

RESULTS = Path("results")
CACHE = RESULTS / "cache"
USAGE = """usage: python -m bench COMMAND [--help]

  run [PRESET] [options]    train, evaluate and measure what is missing, then write and show the tables
  table1 [PRESET] [options] [--explain ROW MODEL]
                            Table 1: run what is missing of it, decide each cell, write it; or tell how a cell was decided
  published [PRESET] [options]
                            published figures beside ours, and the LNN's recipe part by part: run what is missing, write both tables
  table [FOLDER]            write and show the tables of a results folder again
  pack FROM TO | unpack FROM TO
                            a results folder as it is committed, one file a cell; back into one that runs can be added to
  list                      systems, models and presets
  show RUN                  all that is known of one run: its name, or the beginning of it
  tune [PRESET] [options]   search each model's learning rate on validation data
  speed [options]           what models and operators cost, against width, batch and size of the ring
  perf check | compare | baseline [--base COMMIT]
                            compare with the committed baseline and with another commit; times against another commit; accept a change
  accept [--base COMMIT] [--golden] [--deep]
                            keep the names of runs whose rows were edited and give the same bits; or write the golden numbers anew
  doctor                    what is wrong with versions, compiler, disk, locks and files, and what to do about it
  clean [--everything] [--dry-run]
                            remove what nothing needs any more; everything: all that can be made again

PRESET is {presets} (default: laptop). Results go to results/latest/PRESET.
"""


@dataclass(frozen=True)
class Options:
    """What a run is (every field of the preset), and where it goes."""

    preset: Annotated[Preset, tyro.conf.arg(name="")]
    output: Path | None = None
    """results folder; None: results/latest/PRESET"""
    workers: int = field(default_factory=pool.cores)
    """processes, each with one thread"""


def main(arguments: list[str] | None = None) -> int:
    """Runs a command. Exit code 0: all well; 1: some runs failed; 2: the request is wrong, and nothing was changed."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal that knows no θ gets a question mark
    console = Console()
    commands = {"run": _run, "table": _table, "list": _list, "show": _show, "tune": _tune, "speed": _speed, "perf": _perf}
    commands |= {"doctor": _doctor, "clean": _clean, "table1": _table1, "published": _published}
    commands |= {"accept": _accept, "pack": _pack, "unpack": _unpack}
    if not arguments or arguments[0] in ("-h", "--help"):
        print(USAGE.format(presets=", ".join(PRESETS)), end="")
        return 0 if arguments else 2
    try:
        if arguments[0] not in commands:
            raise systems._rows.UnknownName("command", arguments[0], tuple(commands))
        return commands[arguments[0]](arguments[1:], console)
    except (ValueError, Busy, pool.Failed) as error:
        known = isinstance(error, systems._rows.UnknownName | results.ResultsError | DataError | Unwritable | Busy | Wrong | GateError | pool.Failed)
        if not known:
            raise
        print(f"bench: {error}", file=sys.stderr)
        return 2
    except (pool.NoSpace, OSError) as error:
        if not (isinstance(error, pool.NoSpace) or sealed.is_full(error)):
            raise
        print(f"bench: no space left on the disk; what is finished is kept. Free some, then go on with: {_again(arguments)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt as interruption:
        received = interruption.args[0] if interruption.args else signal.SIGINT
        what = "interrupted" if received == signal.SIGINT else f"ended by {signal.Signals(received).name}"
        with suppress(OSError):  # the terminal may be gone
            print(f"\nbench: {what}; finished runs are kept. Go on with: {_again(arguments)}", file=sys.stderr)
        return 128 + received


def _again(arguments: list[str]) -> str:
    """The command line that was given, as it may be typed again."""
    python = Path(sys.executable)
    with suppress(ValueError):
        python = python.relative_to(Path.cwd())
    return shlex.join([str(python), "-m", "bench", *arguments])


def end_like_ctrl_c() -> None:
    """Lets a request to end, or a terminal that goes away, end this process as Ctrl-C does: in order. What is ignored stays so (nohup)."""

    def end(number: int, _) -> None:
        raise KeyboardInterrupt(number)

    for name in ("SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) == signal.SIG_DFL:
            signal.signal(number, end)


class Wrong(ValueError):
    """A request that cannot be understood."""


def parse(kind, arguments: list[str], command: str, default=None):
    """Arguments by tyro; what it finds wrong becomes one line. Raises `Wrong`."""
    said = io.StringIO()
    given = {} if default is None else {"default": default}
    try:
        if any(a in ("-h", "--help") for a in arguments):
            return tyro.cli(kind, args=arguments, prog=f"python -m bench {command}", **given)
        with redirect_stdout(said), redirect_stderr(said):
            return tyro.cli(kind, args=arguments, prog=f"python -m bench {command}", **given)
    except SystemExit as leave:
        if leave.code in (0, None):
            raise
        raise Wrong(_with_option(_one_line(said.getvalue()), arguments) or "wrong arguments") from None
    except (ValueError, TypeError) as error:  # what the dataclass itself refuses
        raise Wrong(str(error)) from None


def _with_option(said: str, arguments: list[str]) -> str:
    """Names the option before a word that tyro does not recognise, such as the `yes` of `--haste yes`."""
    unrecognized, option = said.rpartition("Unrecognized options: ")[2], ""
    for word in arguments:
        if word.startswith("--"):
            option = word
        elif option and unrecognized.startswith(_one_line(word)):
            return f"{option} takes no such word: {said}"
    return said


def _one_line(box: str) -> str:
    text = re.sub(r"[╭╮╰╯│─┌┐└┘━]+|\x1b\[[0-9;]*m", " ", box)
    return re.sub(r"\s+", " ", re.sub(r"-{5,}", "|", text)).strip()


def _options(arguments: list[str], command: str, kind: type = Options, **fields) -> tuple[str, Any]:
    name = "laptop"
    if arguments and not arguments[0].startswith("-"):
        name, arguments = arguments[0], arguments[1:]
    default = kind(replace(presets.preset(name), **fields))
    options = parse(kind, arguments, f"{command} {name}", default)
    if options.workers < 1:
        raise Wrong(f"workers is {options.workers}: give a whole number from 1")
    return name, options


def _run(arguments: list[str], console: Console) -> int:
    name, options = _options(arguments, "run")
    output = options.output or Path("results/latest") / name
    return run(name, options.preset, output, CACHE, options.workers, console)


@dataclass(frozen=True)
class Table1Options(Options):
    """Table 1: six seeds on all systems that it needs, beside what `run` left in the same folder."""

    most_seeds: int = 10
    """for cells whose interval straddles a threshold"""
    explain: tuple[str, str] | None = None
    """row and model of a cell, such as conservation lnn: how it was decided, nothing is run"""


def _table1(arguments: list[str], console: Console) -> int:
    name, options = _options(arguments, "table1", Table1Options, seeds=tuple(range(ENOUGH)))
    output = options.output or Path("results/latest") / name
    if options.explain is not None:
        row, model = options.explain
        ticks.explain(table1.TableOne(output), row, model, console)
        return 0
    return run_table1(name, options.preset, options.most_seeds, output, CACHE, options.workers, console)


def _published(arguments: list[str], console: Console) -> int:
    name, options = _options(arguments, "published", seeds=tuple(range(ENOUGH)))
    return run_published(name, options.preset, options.output or Path("results/latest") / name, CACHE, options.workers, console)


def _tune(arguments: list[str], console: Console) -> int:
    _, options = _options(arguments, "tune")
    require_not_reference(options.output or Path())
    return tune(options.preset, options.output or Path("results/latest/tuning"), CACHE, options.workers, console)


@dataclass(frozen=True)
class PerfOptions:
    """Compares with the baseline (check), with another commit (compare), or accepts what is measured now (baseline)."""

    command: Annotated[Literal["check", "compare", "baseline"], tyro.conf.Positional]
    base: str | None = None
    """commit whose times are compared with; None: the one before"""
    parts: tuple[Literal["figures", "errors", "times"], ...] = gate.PARTS
    """of a check: what can be counted, errors of the smoke grid, times against the base"""
    only: str = ""
    """of a check or comparison: benchmarks in whose name this occurs"""


def _perf(arguments: list[str], console: Console) -> int:
    options = parse(PerfOptions, arguments, "perf")
    if options.command == "baseline":
        return gate.baseline(CACHE, console)
    if options.command == "compare":
        return gate.compare(CACHE, console, options.base, options.only)
    return gate.check(CACHE, console, options.base, options.parts, options.only)


def _accept(arguments: list[str], console: Console) -> int:
    return accept.run(parse(accept.Options, arguments, "accept", accept.Options()), CACHE, console)


def _speed(arguments: list[str], console: Console) -> int:
    return speed.run(parse(speed.Options, arguments, "speed", speed.Options()), CACHE, console)


def _doctor(arguments: list[str], console: Console) -> int:
    parse(doctor.Options, arguments, "doctor")
    return doctor.run(RESULTS, console)


def _clean(arguments: list[str], console: Console) -> int:
    return clean.run(RESULTS, parse(clean.Options, arguments, "clean", clean.Options()), console)


@dataclass(frozen=True)
class TableOptions:
    """Writes the files derived from a results folder again, and shows the table. Exit code 1 if runs are lost."""

    folder: Annotated[Path, tyro.conf.Positional] = Path("results/latest/laptop")
    metrics: tuple[str, ...] = sheet.SHOWN
    """columns to show"""
    document: Path | None = None
    """a Markdown file whose part between the lines <!-- table --> and <!-- /table --> becomes the table, and that between
    <!-- table1 --> and <!-- /table1 --> Table 1"""
    reference: bool = False
    """allow a folder among the committed reference results (make reference)"""


def _table(arguments: list[str], console: Console) -> int:
    options = parse(TableOptions, arguments, "table", TableOptions())
    for name in options.metrics:
        if name not in sheet.HEADINGS:
            raise systems._rows.UnknownName("metric", name, tuple(sheet.HEADINGS))
    require_not_reference(options.folder, options.reference)
    holes, table = derived.write(options.folder)
    if options.document is not None:
        derived.insert(options.folder, table, options.document)
    tables.show(options.folder, console, options.metrics)
    console.print(f"Report: {options.folder / 'report.html'}", highlight=False, soft_wrap=True)
    return 1 if holes else 0


def _pack(arguments: list[str], console: Console) -> int:
    return pack.pack(parse(pack.PackOptions, arguments, "pack"), console)


def _unpack(arguments: list[str], console: Console) -> int:
    return pack.unpack(parse(pack.Options, arguments, "unpack"), console)


def _first_line(text: str | None) -> str:
    return (text or "").strip().splitlines()[0] if text else ""


def _list(arguments: list[str], console: Console) -> int:
    if arguments:
        raise Wrong(f"list takes no arguments, not {' '.join(arguments)}")
    for title, package, get in (("Systems", "systems", systems.get), ("Models", "models", models.get)):
        console.print(title, style="bold")
        for name in (systems if package == "systems" else models).names():
            get(name)
            console.print(f"  {name:22} {_first_line(sys.modules[f'{package}.{name}'].__doc__)}", markup=False, highlight=False)
    console.print("Floors", style="bold")
    for name, floor in FLOORS.items():
        console.print(f"  {name:22} {_first_line(floor.__doc__)}", markup=False, highlight=False)
    console.print("Presets", style="bold")
    for name, preset in PRESETS.items():
        runs = sum(len(cell.seeds) for cell in grid.cells(preset))
        grid_size = f"{len(preset.systems)} systems x {len(preset.models)} models, seeds {' '.join(map(str, preset.seeds))}"
        text = f"{grid_size}, {preset.steps} steps: {runs} runs"
        console.print(f"  {name:22} {text}", markup=False, highlight=False)
    return 0


@dataclass(frozen=True)
class ShowOptions:
    """All that is known of one run."""

    run: Annotated[str, tyro.conf.Positional]
    """name of the run, or its beginning, such as double_pendulum-lnn-s0"""
    folder: Path = Path("results/latest/laptop")
    """results folder"""


def _show(arguments: list[str], console: Console) -> int:
    options = parse(ShowOptions, arguments, "show")
    rows, _ = grid.read_all(options.folder)
    found = [r for r in rows if r["run"].startswith(options.run)]
    if len(found) != 1:
        there = [r["run"] for r in found or rows]
        raise Wrong(f"{len(found)} runs in {options.folder} begin with '{options.run}': choose from {', '.join(there)}")
    result = found[0]
    console.print(result["run"], style="bold", highlight=False)
    console.print(
        f"status: {result['status']} {result['why']}".strip()
        + (f" at step {result['diverged_at_step']}" if result.get("diverged_at_step") is not None else "")
    )
    for part in ("metrics", "speed"):
        for name, value in result[part].items():
            console.print(f"  {name:28} {sheet.number(value):>10} {sheet.UNITS.get(name, '1').replace('1', '') or ''}", highlight=False)
    console.print_json(data=sealed.plain({name: result[name] for name in ("configuration", "scales", "provenance") if name in result}))
    return 0
