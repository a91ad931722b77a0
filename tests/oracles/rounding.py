"""Numbers with a bound on what rounding may make of them, on whatever machine and in whatever order.

Machines round alike, but they do not compute alike: a product of matrices adds its terms in an order that depends on
the processor, the number of threads and the size of the batch, and an exponential ends on another last digit. What
they agree on is that a step is wrong by at most a small part of its result. A `Rounded` carries this bound through
a formula (running error analysis: Wilkinson 1963, Higham 2002, section 3.3), so that a small number got from large
ones, or divided by a small one, is allowed what it costs there, and its neighbours are not.
"""

from __future__ import annotations

import numpy as np

#: What a step may be wrong by, in units of the last place. An addition takes half a unit, and the sums of the tests
#: have at most 60 terms; exponentials and their kin are good to a few units.
STEPS = 32


class Rounded:
    """Values, and the most that rounding can make them wrong by.

    Parameters
    ----------
    value : array
        The values.
    error : array
        The bound for each, 0 for values that are exact.
    unit : float
        What a step may be wrong by, as a part of its result: `STEPS` times the precision's epsilon.
    """

    __array_ufunc__ = None  # so that an array on the left leaves the operation to this class

    def __init__(self, value, error, unit: float) -> None:
        self.value = np.asarray(value, np.float64)
        self.error = np.broadcast_to(np.asarray(error, np.float64), self.value.shape)
        self.unit = unit
        assert np.isfinite(self.error).all()

    def _result(self, value, error) -> Rounded:
        """Return the result of a step, which adds its own error."""
        return Rounded(value, error + self.unit * np.abs(value), self.unit)

    def _other(self, other) -> Rounded:
        return other if isinstance(other, Rounded) else Rounded(other, 0.0, self.unit)

    def __add__(self, other) -> Rounded:
        other = self._other(other)
        return self._result(self.value + other.value, self.error + other.error)

    def __sub__(self, other) -> Rounded:
        return self + -self._other(other)

    def __mul__(self, other) -> Rounded:
        other = self._other(other)
        most = np.abs(self.value) * other.error + (np.abs(other.value) + other.error) * self.error
        return self._result(self.value * other.value, most)

    def __truediv__(self, other) -> Rounded:
        other = self._other(other)
        size = np.abs(other.value)
        # Else its sign is up to the machine, and so is the quotient: there is nothing to compare.
        assert (other.error < size / 2).all(), "a divisor that is 0 but for rounding: draw other numbers"
        value = self.value / other.value
        return self._result(value, (self.error + np.abs(value) * other.error) / (size - other.error))

    def __neg__(self) -> Rounded:
        return Rounded(-self.value, self.error, self.unit)

    def __radd__(self, other) -> Rounded:
        return self + other

    def __rsub__(self, other) -> Rounded:
        return -self + other

    def __rmul__(self, other) -> Rounded:
        return self * other

    def __rtruediv__(self, other) -> Rounded:
        return self._other(other) / self

    def __eq__(self, other) -> np.ndarray:
        """Tell where the values are equal, which a rule may ask of values that are exact."""
        return self.value == other

    __hash__ = None

    def __getitem__(self, where) -> Rounded:
        return Rounded(self.value[where], self.error[where], self.unit)

    def sum(self, axis) -> Rounded:
        """Add up, in any order: partial sums can be as large as all terms together."""
        error = self.error.sum(axis) + self.unit * np.abs(self.value).sum(axis)
        return Rounded(self.value.sum(axis), error, self.unit)


def value_of(x) -> np.ndarray:
    """Return the values of numbers that may be rounded."""
    return x.value if isinstance(x, Rounded) else np.asarray(x)


def choose(condition, yes, no):
    """Return one number or the other; one that is not taken has no error."""
    rounded = next((x for x in (yes, no) if isinstance(x, Rounded)), None)
    if rounded is None:
        return np.where(condition, yes, no)
    yes, no = (x if isinstance(x, Rounded) else Rounded(x, 0.0, rounded.unit) for x in (yes, no))
    return Rounded(np.where(condition, yes.value, no.value), np.where(condition, yes.error, no.error), rounded.unit)


def positive(x):
    """Return the positive part."""
    return choose(value_of(x) > 0, x, 0.0)


def negative(x):
    """Return the negative part."""
    return choose(value_of(x) < 0, x, 0.0)
