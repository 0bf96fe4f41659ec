"""A verdict is an interval against a threshold: it is open where the interval straddles, and infinite errors are errors."""

import numpy as np
import pytest

from bench.claims import CLAIMS, COLUMNS, Quantity, harm, worst
from bench.verdicts import DRAWS, Effect, Verdict, median_of_ratios, together

PLAIN = Quantity("a number", lambda curves: (curves["top"][None], np.ones_like(curves["top"][None])))


def draws(*runs):
    return PLAIN.values([{"top": np.array(run, float)} if run is not None else {} for run in runs])


def test_an_effect_is_the_median_over_seeds_of_the_mean_over_units():
    values = draws([1, 3], [2, 4], [10, 20])
    assert values[0] == 3.0
    assert len(values) == 1 + DRAWS


def test_the_interval_holds_95_per_cent_of_what_drawing_again_gives():
    random = np.random.default_rng(1)
    runs = random.normal(5.0, 1.0, (6, 1)) + 0.1 * random.normal(size=(6, 64))
    effect = Effect.of(draws(*runs))
    assert runs.mean(axis=1).min() <= effect.low < effect.value < effect.high <= runs.mean(axis=1).max() + 0.1
    same = Effect.of(draws(*np.full((6, 64), 2.0)))
    assert (same.value, same.low, same.high) == (2.0, 2.0, 2.0)


def test_units_widen_the_interval_too():
    few, many = (Effect.of(draws(*np.tile(np.random.default_rng(2).exponential(size=n), (6, 1)))) for n in (8, 800))
    assert (few.high - few.low) > 4 * (many.high - many.low) > 0


def test_the_same_numbers_give_the_same_interval():
    assert (draws([1, 2.0, 3], [2, 3, 4]) == draws([1, 2.0, 3], [2, 3, 4])).all()


def test_a_run_that_diverged_counts_as_infinite_and_is_never_left_out():
    effect = Effect.of(draws([1, 1], [1, 1], None))
    assert (effect.value, effect.high) == (1.0, np.inf)
    assert Effect.of(draws([1, 1], None, None)).value == np.inf
    assert Effect.of(draws(None, None)).value == np.inf
    assert Effect.of(draws([1, np.inf], [1, 2], [1, 2])).value == 1.5


def test_what_is_not_a_number_counts_as_infinite():
    nothing = np.zeros((3, 1, 4))
    assert median_of_ratios(np.mean, nothing, nothing)[0] == np.inf


@pytest.mark.parametrize(
    ("low", "high", "margin", "verdict"),
    [
        (0.1, 0.9, 1.0, "✓"),
        (0.1, 1.0, 1.0, "✓"),
        (0.9, 1.1, 1.0, "?"),
        (1.1, np.inf, 1.0, "✗"),
        (0.1, 0.9, 2.0, "?"),
        (0.1, 0.5, 2.0, "✓"),
        (1.1, 9.0, 2.0, "?"),
        (2.1, 9.0, 2.0, "✗"),
    ],
)
def test_a_verdict_is_open_where_the_interval_straddles_the_threshold(low, high, margin, verdict):
    assert Effect(0.5, low, high).against(1.0, margin) == verdict


def test_all_criteria_must_hold_and_one_that_fails_is_enough():
    yes, no, open_ = Verdict.YES, Verdict.NO, Verdict.OPEN
    assert together([yes, yes]) == yes
    assert together([yes, open_]) == open_
    assert together([open_, no]) == no


def test_the_worst_system_counts():
    values = {"a": np.array([1.0, 5.0]), "b": np.array([3.0, 2.0])}
    assert list(worst(PLAIN, ("a", "b"))(lambda quantity, model, system: values[system], "lnn")) == [3.0, 5.0]


def test_the_harm_of_charts_is_told_in_units_of_what_they_do_to_a_model_that_knows_no_mechanics():
    errors = {("lnn", "flat"): 0.1, ("lnn", "curved"): 0.9, ("second_order_ode", "flat"): 0.1, ("second_order_ode", "curved"): 0.3}
    errors |= {("lnn", "lost"): np.inf, ("second_order_ode", "lost"): 0.1}

    def values(quantity, model, system):
        return np.array([errors[model, system]])

    assert harm(PLAIN, (("flat", "curved"),))(values, "lnn") == pytest.approx(3.0)
    assert harm(PLAIN, (("flat", "curved"),))(values, "second_order_ode") == pytest.approx(1.0)
    assert harm(PLAIN, (("flat", "curved"), ("flat", "lost")))(values, "lnn") == np.inf


def test_every_claim_says_what_was_expected_of_every_column_and_why_its_thresholds_are_what_they_are():
    assert [claim.title for claim in CLAIMS] == [
        "Can model dynamical systems",
        "Learns differential equations",
        "Learns exact conservation laws",
        "Learns from arbitrary coordinates",
        "Learns arbitrary Lagrangians",
    ]
    for claim in CLAIMS:
        assert set(claim.expected) == set(COLUMNS)
        assert list(claim.ticks) == list(COLUMNS)[:5]
        assert all(criterion.why and criterion.threshold > 0 for criterion in claim.criteria)


def test_what_is_not_known_decides_nothing():
    effect = Effect.of(np.full(1 + DRAWS, np.nan))
    assert effect.against(1.0) == effect.against(0.0) == Verdict.OPEN


def test_models_of_six_and_of_ten_seeds_are_compared_on_the_same_units():
    units = np.random.default_rng(3).exponential(size=32)
    six, ten = (draws(*np.tile(units, (seeds, 1))) for seeds in (6, 10))
    np.testing.assert_array_equal(six, ten)
