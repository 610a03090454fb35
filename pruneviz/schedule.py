"""Schedules: how the sparsity grows when a network is pruned in several steps.

A schedule is a value with one method: the sparsities to reach, one after the other, the last of them
being the target. Between two steps the weights that are left are scored again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from pruneviz.errors import InputError, check_positive, check_sparsity


class Schedule(Protocol):
    """Anything that turns a target sparsity into the sparsities of the steps towards it."""

    def sparsities(self, target: float) -> list[float]:
        """The fraction removed after each step, never decreasing; the last one is exactly `target`."""
        ...


@dataclass(frozen=True)
class OneShot:
    """Score once, cut once: what SNIP and GraSP do."""

    def sparsities(self, target: float) -> list[float]:
        """The target alone."""
        return [check_sparsity(target)]


@dataclass(frozen=True)
class Exponential:
    """Keep the same fraction of what is left in every step: density after step k is d^(k/steps).

    Tanaka et al. 2020, algorithm 1, with 100 steps.
    """

    steps: int

    def __post_init__(self) -> None:
        check_positive("the number of steps", self.steps)

    def sparsities(self, target: float) -> list[float]:
        """1 - (1 - target)^(k/steps) for k = 1 .. steps."""
        density = 1.0 - check_sparsity(target)
        return [1.0 - density ** (k / self.steps) for k in range(1, self.steps)] + [float(target)]


@dataclass(frozen=True)
class Linear:
    """Remove the same number of weights in every step: sparsity after step k is target * k / steps."""

    steps: int

    def __post_init__(self) -> None:
        check_positive("the number of steps", self.steps)

    def sparsities(self, target: float) -> list[float]:
        """Target * k / steps for k = 1 .. steps."""
        goal = check_sparsity(target)
        return [goal * k / self.steps for k in range(1, self.steps)] + [goal]


def parse(text: str) -> Schedule:
    """The schedule that a command line or a grid names: "one_shot", "exponential:100" or "linear:10".

    Raises:
        InputError: for any other text.
    """
    name, _, steps = str(text).partition(":")
    if text == "one_shot":
        return OneShot()
    if name in ("exponential", "linear") and steps.isdecimal() and len(steps) < 10 and int(steps) >= 1:
        return Exponential(int(steps)) if name == "exponential" else Linear(int(steps))
    raise InputError(f"schedule {text!r} is not known; accepted: one_shot, exponential:STEPS, linear:STEPS")
