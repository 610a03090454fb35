"""Schedules against their formulas: the density after each step, the last step exactly the target."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import pruneviz as pv
from pruneviz.errors import InputError

targets = st.floats(0.0, 0.9999)
steps = st.integers(1, 120)
NO_SCHEDULES = [
    "",
    "oneshot",
    "one_shot:2",
    "exponential",
    "exponential:",
    "exponential:0",
    "linear:-1",
    "linear:1.5",
    None,
]
PROPERTY = settings(deadline=None, derandomize=True, max_examples=100)


@PROPERTY
@given(targets, steps)
def test_exponential_keeps_the_same_fraction_of_what_is_left_in_every_step(target, n):
    sparsities = pv.Exponential(n).sparsities(target)
    assert len(sparsities) == n
    assert sparsities[-1] == target
    density, factor = 1.0, (1 - target) ** (1 / n)
    for sparsity in sparsities:
        density *= factor
        assert 1 - sparsity == pytest.approx(density, rel=1e-9)


@PROPERTY
@given(targets, steps)
def test_linear_removes_the_same_number_in_every_step(target, n):
    sparsities = pv.Linear(n).sparsities(target)
    assert len(sparsities) == n
    assert sparsities[-1] == target
    for before, after in zip([0.0, *sparsities], sparsities, strict=False):
        assert after - before == pytest.approx(target / n, abs=1e-12)


@PROPERTY
@given(targets, steps)
def test_sparsities_never_decrease(target, n):
    for schedule in (pv.OneShot(), pv.Exponential(n), pv.Linear(n)):
        sparsities = schedule.sparsities(target)
        assert sparsities == sorted(sparsities)
        assert all(0.0 <= s < 1.0 for s in sparsities)


def test_by_hand():
    assert pv.OneShot().sparsities(0.98) == [0.98]
    assert pv.Linear(3).sparsities(0.75) == [0.25, 0.5, 0.75]
    assert pv.Exponential(2).sparsities(0.75) == [0.5, 0.75]
    # Tanaka et al. 2020, algorithm 1: density 10^-2 in 100 steps is 10^(-2/100) after the first
    assert pv.Exponential(100).sparsities(0.99)[0] == pytest.approx(1 - 10**-0.02, rel=1e-12)
    assert pv.Exponential(1).sparsities(0.9) == pv.Linear(1).sparsities(0.9) == [0.9]


def test_the_target_comes_out_bit_for_bit():
    for target in (0.9, 0.98, 0.995, 1 / 3):
        for schedule in (pv.OneShot(), pv.Exponential(7), pv.Linear(7)):
            assert schedule.sparsities(target)[-1] == target


@pytest.mark.parametrize(
    ("text", "schedule"),
    [("one_shot", pv.OneShot()), ("exponential:100", pv.Exponential(100)), ("linear:10", pv.Linear(10))],
)
def test_parse(text, schedule):
    assert pv.schedule.parse(text) == schedule


@pytest.mark.parametrize("text", NO_SCHEDULES)
def test_a_text_that_names_no_schedule_is_one_line(text):
    with pytest.raises(InputError, match="is not known; accepted: one_shot, exponential:STEPS, linear:STEPS") as caught:
        pv.schedule.parse(text)
    assert repr(text) in str(caught.value)


@pytest.mark.parametrize("kind", [pv.Exponential, pv.Linear])
@pytest.mark.parametrize("n", [0, -1, 1.5, "3", None, True])
def test_a_number_of_steps_that_is_no_count_is_one_line(kind, n):
    with pytest.raises(InputError, match="give a whole number of at least 1"):
        kind(n)


@pytest.mark.parametrize("schedule", [pv.OneShot(), pv.Exponential(3), pv.Linear(3)])
@pytest.mark.parametrize("target", [1.0, -0.1, float("nan"), True, "0.5"])
def test_a_target_that_is_no_fraction_is_one_line(schedule, target):
    with pytest.raises(InputError, match="is not a fraction of weights to remove"):
        schedule.sparsities(target)


def test_schedules_are_values():
    assert pv.Linear(3) == pv.Linear(3) != pv.Linear(4)
    with pytest.raises(AttributeError):
        pv.Linear(3).steps = 4
