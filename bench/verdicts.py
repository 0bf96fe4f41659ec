"""Verdicts: an effect size with a bootstrap interval over seeds and units, against a threshold that was written down before.

A quantity is measured on every unit (a held-out trajectory, or a start) of every run. Its value on a system is the median over seeds of a statistic
over units; its interval comes from drawing seeds and units again, with replacement, the same units for all seeds of a draw.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cache

import numpy as np
from jaxtyping import Float, Int

DRAWS = 2000
LEVEL = 0.95
ENOUGH = 6  # seeds: five cannot give 95 % for a median
MARGIN = 2.0  # with fewer seeds, a verdict needs the interval to be that factor away from the threshold


class Verdict(StrEnum):
    """What an experiment says of a claim."""

    YES = "✓"
    NO = "✗"
    OPEN = "?"
    NONE = "n/a"  # it cannot be asked

    @property
    def decided(self) -> bool:
        """Whether it is a yes or a no."""
        return self in (Verdict.YES, Verdict.NO)


@dataclass(frozen=True)
class Effect:
    """An effect size and the ends of its interval; not numbers where nothing is known."""

    value: float
    low: float
    high: float

    @classmethod
    def of(cls, draws: Float[np.ndarray, " draws"]) -> "Effect":
        """From the value as measured, followed by those of the draws. Infinite ones count as they are."""
        tail = (1 - LEVEL) / 2
        if np.isnan(draws).any():
            return cls(float("nan"), float("nan"), float("nan"))
        low, high = np.quantile(draws[1:], [tail, 1 - tail], method="nearest")
        return cls(float(draws[0]), float(low), float(high))

    def against(self, threshold: float, margin: float = 1.0) -> Verdict:
        """✓ if the interval lies at or below the threshold, ✗ if it lies above, ? if it straddles it; by a factor `margin`."""
        if self.high * margin <= threshold:
            return Verdict.YES
        return Verdict.NO if self.low > threshold * margin else Verdict.OPEN


def together(verdicts: Sequence[Verdict]) -> Verdict:
    """✗ if one of several criteria fails, ✓ if all hold, else ?."""
    if Verdict.NO in verdicts:
        return Verdict.NO
    return Verdict.YES if set(verdicts) == {Verdict.YES} else Verdict.OPEN


def median_of_ratios(
    reduce: Callable, top: Float[np.ndarray, "seed k unit"], bottom: Float[np.ndarray, "seed k unit"]
) -> Float[np.ndarray, " draws"]:
    """median over seeds of the largest over k of reduce(top)/reduce(bottom) over units: as measured, then of each draw.

    The same drawing whenever it is called for the same numbers of seeds and units, so that tables come out the same.
    """
    drawing = _drawing(top.shape[0], top.shape[2])
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio = drawing.reduce(reduce, top) / drawing.reduce(reduce, bottom)  # [seed, k, draw]
    largest = np.where(np.isnan(ratio), np.inf, ratio).max(axis=1)
    return np.median(largest[drawing.seeds, np.arange(1 + DRAWS)[:, None]], axis=1)


@dataclass(frozen=True)
class _Drawing:
    """Seeds and units as they are, then those of each draw."""

    seeds: Int[np.ndarray, "draw seed"]
    units: Int[np.ndarray, "draw unit"]
    often: Float[np.ndarray, "unit draw"]  # how often each unit is drawn

    def reduce(self, reduce: Callable, values: Float[np.ndarray, "seed k unit"]) -> Float[np.ndarray, "seed k draw"]:
        """reduce over the units of each draw; a mean of finite numbers as a product with how often each is drawn."""
        if reduce is np.mean and np.isfinite(values).all():
            return values @ self.often / values.shape[2]
        return reduce(values[:, :, self.units], axis=3)


@cache
def _drawing(seeds: int, units: int) -> _Drawing:
    # streams of their own, so that models of six and of ten seeds are compared on the same units
    s, u = (
        np.concatenate([np.arange(n)[None], np.random.default_rng(stream).integers(n, size=(DRAWS, n))]) for stream, n in enumerate((seeds, units))
    )
    return _Drawing(s, u, np.stack([np.bincount(draw, minlength=units) for draw in u], axis=1).astype(float))
