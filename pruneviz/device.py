"""Where to compute: a device by its name, checked before anything is moved there."""

from __future__ import annotations

import torch

from pruneviz.errors import InputError


def pick_device(device: torch.device | str | None) -> torch.device:
    """The device meant: a GPU if there is one and nothing is said.

    Raises:
        InputError: for anything but the CPU and a CUDA device that is there.
    """
    if device is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    here = ["cpu", *(f"cuda:{index}" for index in range(torch.cuda.device_count()))]
    try:
        place = torch.device(device)
    except (RuntimeError, TypeError):
        place = None
    known = place is not None and (
        str(place) in here or (place.type == "cuda" and place.index is None and len(here) > 1)
    )
    if place is None or not known:
        raise InputError(f"device {str(device)!r} cannot be used here; accepted: {', '.join(here)}")
    return place
