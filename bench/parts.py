"""Parts of the evaluation with a number of their own: a new metric is computed where a cell asks for it, and nothing else is computed again.

What `Evaluator.__call__` measures has the number `EVALUATION` (`bench/evaluate.py`). A part is an entry of `PARTS`; its metrics and curves are called
like the part, or begin with its name and an underscore. To change what a part computes, raise its number.
"""

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bench import evaluate, power, provenance, results
from bench.floors import FLOORS

if TYPE_CHECKING:
    from bench.grid import Cell

Measured = tuple[dict[str, float], dict[str, np.ndarray]]  # metrics and curves by name
WHOLE = "the evaluation"  # without its parts


@dataclass(frozen=True)
class Part:
    """A part of the evaluation."""

    number: int
    asked: Callable[["Cell"], bool]
    """whether a cell, of a model or of a floor, asks for it"""
    measure: Callable[[evaluate.Evaluator, Any], Measured]
    """its metrics and curves of a model, or of a floor"""


def _power(evaluator: evaluate.Evaluator, model) -> Measured:
    x, _, c = evaluator.test
    return power.balance(evaluator.system, x, c, evaluator.rates(model)[0]), {}


def _is_forced_field(cell: "Cell") -> bool:
    of = FLOORS[cell.model] if cell.is_floor else cell.get_model()
    return cell.get_system().forced and hasattr(of, "derivative")


PARTS = {"power": Part(1, _is_forced_field, _power)}


def numbers(cell: "Cell") -> dict[str, int]:
    """Numbers of the parts that a cell asks for."""
    return {name: part.number for name, part in PARTS.items() if part.asked(cell)}


def missing(provenance: Mapping[str, Any], cell: "Cell") -> list[str]:
    """What of a cell's evaluation a result has not, or of another number: `WHOLE`, and names of parts."""
    there = provenance.get("parts") or {}
    whole = [] if provenance.get("evaluation") == evaluate.EVALUATION else [WHOLE]
    return [*whole, *(name for name, number in numbers(cell).items() if whole or there.get(name) != number)]


def measured(todo: list[str], before: Measured, evaluator: evaluate.Evaluator, model) -> Measured:
    """Metrics and curves with what is to do of them; what was there before of the same names is replaced, and the rest is left as it is."""
    metrics, curves = evaluator(model) if WHOLE in todo else before
    for name in todo:
        if name != WHOLE:
            metrics = {key: value for key, value in metrics.items() if not _belongs(key, name)}
            curves = {key: value for key, value in curves.items() if not _belongs(key, name)}
            new = PARTS[name].measure(evaluator, model)
            if strangers := [key for found in new for key in found if not _belongs(key, name)]:
                raise ValueError(f"the part {name} gives {', '.join(strangers)}: call it {name}, or {name}_...")
            metrics, curves = metrics | new[0], curves | new[1]
    return metrics, curves


def completed(where: Path, cell: "Cell", evaluator: evaluate.Evaluator, model, parameters: str | None = None) -> tuple[*Measured, dict | None]:
    """Metrics and curves of a model whose result lies in a folder, or will: what that result has of them stays, and what is missing is computed.

    Then the provenance of the result, completed; None where all is new. `parameters`: digest of the model's, which must be the result's.
    """
    todo, before, made = [WHOLE, *numbers(cell)], ({}, {}), None
    with suppress(results.ResultsError):  # there is none, or none that is whole
        result = results.read(where)
        todo_of_it = missing(result["provenance"], cell)
        if result["status"] not in results.LOST and result.get("parameters") == parameters and WHOLE not in todo_of_it:
            todo, before, made = todo_of_it, (result["metrics"], results.curves(where, result)), result["provenance"]
            now = provenance.of(provenance.clock())
            later = {name: {key: now[key] for key in ("commit", "dirty", "written")} for name in todo}
            made = {**made, "completed": {**made.get("completed", {}), **later}}
    return *measured(todo, before, evaluator, model), made


def _belongs(key: str, part: str) -> bool:
    return key == part or key.startswith(f"{part}_")
