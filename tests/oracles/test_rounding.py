"""The bounds of `rounding.py` hold for whatever order single precision computes in, against exact fractions."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from rounding import STEPS, Rounded, choose, negative, positive

UNIT = STEPS * float(np.finfo(np.float32).eps)


def exact(values) -> list[Fraction]:
    return [Fraction(float(v)) for v in values]


def draws(seed: int, count: int) -> tuple[np.ndarray, np.random.Generator]:
    rng = np.random.default_rng(seed)
    return (rng.standard_normal(count) * 10.0 ** rng.integers(-3, 4, count)).astype(np.float32), rng


@pytest.mark.parametrize("seed", range(20))
def test_a_sum_in_any_order_then_a_quotient_of_differences(seed):
    """The formula of a secant, whose digits cancel: what every rule of DeepLift is made of."""
    x, rng = draws(seed, 40)
    a, b = x[:20], x[20:]
    truth = sum(exact(a)) / (sum(exact(a)) - sum(exact(b)))
    total, other = (Rounded(values.astype(np.float64), 0.0, UNIT).sum(-1) for values in (a, b))
    bounded = total / (total - other)
    for _ in range(20):
        left, right = (np.float32(0), np.float32(0))
        for v in rng.permutation(a):
            left = np.float32(left + v)
        for v in rng.permutation(b):
            right = np.float32(right + v)
        found = left / np.float32(left - right)
        assert abs(Fraction(float(found)) - truth) <= Fraction(float(bounded.error))
    assert bounded.error < 0.1 * abs(bounded.value)  # and the bound says something


@pytest.mark.parametrize("seed", range(20))
def test_products_of_rounded_numbers(seed):
    x, _ = draws(seed, 8)
    a, b, c, d = (Rounded(float(v), 0.0, UNIT) for v in x[:4])
    p, q, r, s = x[:4]
    bounded = (a - b) * (c + d) - 2.0 * a
    found = np.float32(np.float32(p - q) * np.float32(r + s)) - np.float32(2 * p)
    truth = (Fraction(float(p)) - Fraction(float(q))) * (Fraction(float(r)) + Fraction(float(s))) - 2 * Fraction(
        float(p)
    )
    assert abs(Fraction(float(np.float32(found))) - truth) <= Fraction(float(bounded.error))
    assert float(bounded.error) <= 10 * UNIT * (abs(p - q) * abs(r + s) + 2 * abs(p) + (abs(p) + abs(q)) * abs(r + s))


def test_neighbours_of_a_large_number_keep_their_own_bound():
    """A global tolerance, or one of the largest number, would let a small number be anything."""
    numbers = Rounded(np.array([3.2e13, 1.0]), 0.0, UNIT) / Rounded(np.array([1.0, 3.0]), 0.0, UNIT)
    assert numbers.error[0] > 1e7
    assert numbers.error[1] < 1e-5


def test_a_small_number_from_large_ones_gets_theirs():
    large = Rounded(np.array([1.0]), UNIT, UNIT)
    tiny = large / 1e-15 - large / 1e-15
    assert tiny.value == 0
    assert tiny.error > UNIT / 1e-15


def test_what_is_not_taken_does_not_count():
    x = Rounded(np.array([-2.0, 3.0]), np.array([0.5, 0.25]), UNIT)
    for part, values, errors in ((positive(x), [0, 3], [0, 0.25]), (negative(x), [-2, 0], [0.5, 0])):
        np.testing.assert_array_equal(part.value, values)
        np.testing.assert_array_equal(part.error, errors)
    both = choose(np.array([True, False]), 7.0, x)
    np.testing.assert_array_equal(both.value, [7, 3])
    np.testing.assert_array_equal(both.error, [0, 0.25])
    np.testing.assert_array_equal(choose(np.array([True, False]), 1.0, 2.0), [1, 2])


def test_a_divisor_that_is_nothing_but_rounding_is_refused():
    one = Rounded(np.array([1.0]), UNIT, UNIT)
    with pytest.raises(AssertionError, match="draw other numbers"):
        one / (one - one)
