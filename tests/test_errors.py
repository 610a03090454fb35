"""What is said about an input that cannot be used: one line, with what was received and what is accepted."""

import math
from fractions import Fraction

import numpy as np
import pytest

import pruneviz as pv
from pruneviz.errors import InputError, check_choice, check_number, check_positive, check_seed, check_sparsity

NAN, INF = float("nan"), float("inf")


def test_an_input_error_is_a_value_error_and_public():
    assert issubclass(InputError, ValueError)
    assert pv.InputError is InputError


def test_a_choice_is_returned_as_it_is_and_a_near_miss_is_guessed():
    names = ("random", "magnitude", "snip", "grasp")
    assert check_choice("scorer", "snip", names) == "snip"
    assert check_choice("scorer", "snip", iter(names)) == "snip"
    for received, message in [
        ("snpi", "scorer 'snpi' is not known; did you mean 'snip'? accepted: random, magnitude, snip, grasp"),
        ("zzz", "scorer 'zzz' is not known; accepted: random, magnitude, snip, grasp"),
        (None, "scorer None is not known; accepted: random, magnitude, snip, grasp"),
        (["snip"], "scorer ['snip'] is not known; did you mean 'snip'? accepted: random, magnitude, snip, grasp"),
    ]:
        with pytest.raises(InputError) as caught:
            check_choice("scorer", received, names)
        assert str(caught.value) == message


@pytest.mark.parametrize("value", [0, 0.0, 0.5, 0.999999, np.float32(0.5), np.float64(0.5), Fraction(1, 2)])
def test_a_sparsity_comes_back_as_a_float(value):
    assert check_sparsity(value) == float(value)
    assert type(check_sparsity(value)) is float


@pytest.mark.parametrize("value", [NAN, INF, -INF, 1, 1.0, 1.2, -0.1, -1e-300, True, False, "0.5", None, 0.5j, [0.5]])
def test_no_sparsity(value):
    with pytest.raises(InputError) as caught:
        check_sparsity(value)
    assert str(caught.value) == (
        f"sparsity {value!r} is not a fraction of weights to remove: accepted is 0 <= sparsity < 1"
    )


@pytest.mark.parametrize("value", [1, 100, np.int64(3), 2**70])
def test_a_count_comes_back_as_an_int(value):
    assert check_positive("epochs", value) == int(value)
    assert type(check_positive("epochs", value)) is int


@pytest.mark.parametrize("value", [0, -1, 1.0, 1.5, True, False, "3", None, NAN])
def test_no_count(value):
    with pytest.raises(InputError) as caught:
        check_positive("epochs", value)
    assert str(caught.value) == f"epochs {value!r} is not accepted: give a whole number of at least 1"


@pytest.mark.parametrize("value", [0, 1, 2**63 - 1, np.int64(3)])
def test_a_seed_comes_back_as_an_int(value):
    assert check_seed(value) == int(value)
    assert type(check_seed(value)) is int


@pytest.mark.parametrize("value", [-1, 2**63, 1.0, True, "0", None, NAN])
def test_no_seed(value):
    with pytest.raises(InputError, match=r"seed .* is not accepted: give a whole number"):
        check_seed(value)


@pytest.mark.parametrize("value", [1, 1.5, 1e-300, np.float32(2.0), Fraction(1, 3)])
def test_a_number_comes_back_as_a_float(value):
    assert check_number("lr", value, above=0.0) == float(value)
    assert type(check_number("lr", value, above=0.0)) is float


@pytest.mark.parametrize("value", [0, 0.0, -1.0, NAN, INF, -INF, True, "0.1", None])
def test_no_number_above_a_bound(value):
    with pytest.raises(InputError) as caught:
        check_number("lr", value, above=0.0)
    assert str(caught.value) == f"lr {value!r} is not accepted: give a finite number greater than 0"


def test_a_lower_bound_that_is_itself_accepted():
    assert check_number("momentum", 0, at_least=0.0) == 0.0
    with pytest.raises(InputError, match=r"momentum -0\.1 is not accepted: give a finite number of at least 0$"):
        check_number("momentum", -0.1, at_least=0.0)


def test_a_number_without_a_bound_need_only_be_finite():
    assert check_number("shift", -3) == -3.0
    for value in (NAN, INF, -math.inf, False):
        with pytest.raises(InputError, match=r"give a finite number$"):
            check_number("shift", value)
