"""What is said when an input cannot be used: one line with what was received and what is accepted."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable
from numbers import Integral, Real


class InputError(ValueError):
    """An input that cannot be used.

    The message is one line: what was received and what would have been accepted. The command line prints
    it without a traceback and exits with status 2.
    """


def check_choice(what: str, received: object, accepted: Iterable[str]) -> str:
    """Return `received` if it is one of `accepted`.

    Args:
        what: what is being chosen, as the reader knows it ("scorer", "data set").
        received: the value given.
        accepted: every name that would do.

    Raises:
        InputError: naming the closest accepted name, if one is close, and all of them.
    """
    names = list(accepted)
    if isinstance(received, str) and received in names:
        return received
    close = difflib.get_close_matches(str(received), names, n=1)
    hint = f"did you mean {close[0]!r}? " if close else ""
    raise InputError(f"{what} {received!r} is not known; {hint}accepted: {', '.join(names)}")


def check_sparsity(value: object) -> float:
    """Return `value` as a float if it is a fraction of weights that can be removed: 0 <= value < 1.

    Raises:
        InputError: for anything else, NaN and booleans included.
    """
    if isinstance(value, Real) and not isinstance(value, bool) and 0.0 <= float(value) < 1.0:
        return float(value)
    raise InputError(f"sparsity {value!r} is not a fraction of weights to remove: accepted is 0 <= sparsity < 1")


def check_positive(what: str, value: object) -> int:
    """Return `value` as an int if it is a whole number of at least 1.

    Raises:
        InputError: for anything else, booleans included.
    """
    if isinstance(value, Integral) and not isinstance(value, bool) and int(value) >= 1:
        return int(value)
    raise InputError(f"{what} {value!r} is not accepted: give a whole number of at least 1")


def check_seed(value: object) -> int:
    """Return `value` as an int if a generator accepts it as a seed: a whole number, 0 <= value < 2^63.

    Raises:
        InputError: for anything else, booleans included.
    """
    if isinstance(value, Integral) and not isinstance(value, bool) and 0 <= int(value) < 2**63:
        return int(value)
    raise InputError(f"seed {value!r} is not accepted: give a whole number, 0 <= seed < 2^63")


def check_number(what: str, value: object, *, above: float = -math.inf, at_least: float = -math.inf) -> float:
    """Return `value` as a float if it is a finite number, greater than `above` and not less than `at_least`.

    Raises:
        InputError: for anything else, booleans included.
    """
    if isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value):
        number = float(value)
        if number > above and number >= at_least:
            return number
    bound = f" greater than {above:g}" if above > -math.inf else f" of at least {at_least:g}"
    bound = bound if max(above, at_least) > -math.inf else ""
    raise InputError(f"{what} {value!r} is not accepted: give a finite number{bound}")
