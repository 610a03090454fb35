"""How published numbers were trained for, as far as their sources say, and how our training differs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pruneviz.errors import check_choice
from pruneviz.recipe import RECIPES

CUNEGATTI = "Cunegatti et al., TMLR 2024 (independent re-run)"
GRASP = "GraSP (Wang et al., ICLR 2020)"

#: The share of the training images that our runs train on; the rest is the validation split of `pruneviz.data.load`.
TRAINED_ON = 0.9

#: What stands for a setting that a source does not tell.
NOT_KNOWN = "not known"


@dataclass(frozen=True)
class Protocol:
    """How a published number was made, as far as its source says; None where it does not.

    Attributes:
        source: whose statement this is.
        epochs: passes over the training images.
        batch_size: examples per step.
        lr: the peak learning rate.
        weight_decay: L2.
        schedule: as in `Recipe`.
        augment: whether with random crops and flips.
        epoch: whose accuracy is reported, the "last" one's or that which is "best" on the test images.
        share: of the training images that was trained on.
        test_augment: whether test images are cropped and flipped too.
    """

    source: str
    epochs: int | None = None
    batch_size: int | None = None
    lr: float | None = None
    weight_decay: float | None = None
    schedule: str | None = None
    augment: bool | None = None
    epoch: str | None = None
    share: float | None = None
    test_augment: bool | None = None


# Milestones are left out: those below are all at a half and three quarters, as in our recipes of steps.
_STEPS: dict[str, Any] = {"epochs": 160, "batch_size": 128, "lr": 0.1, "schedule": "step", "augment": True}
# As released, their program trains for two epochs only; the settings of the runs are in its table of optimizers.
_CUNEGATTI_CODE = {**_STEPS, "weight_decay": 1e-4, "epoch": "last", "share": 1.0}
_PROTOCOLS = {
    **{
        # The images of CIFAR-100 that they test on go through the crops and flips of training.
        (CUNEGATTI, dataset, model): Protocol("Cunegatti et al. (2024), code", test_augment=wild, **_CUNEGATTI_CODE)
        for dataset, wild in (("CIFAR-10", False), ("CIFAR-100", True))
        for model in ("Resnet-20", "Resnet-32")
    },
    **{
        (GRASP, dataset, model): Protocol("Wang et al. (2020), code", weight_decay=decay, epoch="best", **_STEPS)
        for dataset in ("CIFAR-10", "CIFAR-100")
        for model, decay in (("VGG19", 5e-4), ("ResNet32", 1e-4))
    },
}
_START = "how dense each layer starts is not known, ours starts as ERK"
_SCORING = {
    CUNEGATTI: {
        "grasp": "scored on weights that are drawn anew and not trained, with 25 images of each class; ours on the "
        "weights that are trained, with 10",
        "snip": "scored on one training batch, cropped and flipped; ours on 10 images of each class as they are",
        "prospr": "scored on batches of 512 training images, cropped and flipped, with the first step's gradient taken "
        "for a constant; ours on batches of 10 images of each class as they are, with nothing cut off",
        **dict.fromkeys(("rigl", "set", "dsr"), _START),
    }
}


def differences(number: Mapping[Any, Any], recipe_name: str) -> list[str]:
    """How our training differs from that behind a published number: one phrase for each difference, theirs first.

    Args:
        number: a row of the published table.
        recipe_name: one of `RECIPES`, ours.

    Raises:
        InputError: for a recipe that is not known.
    """
    pairs = compared(number, recipe_name)
    note = [scoring(number)] if scoring(number) else []
    if protocol(number) is None:
        return [*note, "how the published network was trained is not known"]
    said = [f"{name} {theirs}, ours {ours}" for name, theirs, ours in pairs if theirs not in (NOT_KNOWN, ours)]
    unknown = [f"{name} ({ours})" for name, theirs, ours in pairs if theirs == NOT_KNOWN]
    return said + note + ([f"not known of theirs (ours): {', '.join(unknown)}"] if unknown else [])


def scoring(number: Mapping[Any, Any]) -> str:
    """How the published mask was found differently from ours, as far as that is known; else an empty text."""
    return _SCORING.get(str(number["paper"]), {}).get(str(number["method"]).lower(), "")


def compared(number: Mapping[Any, Any], recipe_name: str) -> list[tuple[str, str, str]]:
    """All that may differ, as texts: its name, theirs, which may be `NOT_KNOWN`, and ours; for errors see above."""
    ours = RECIPES[check_choice("recipe", recipe_name, RECIPES)]
    theirs = protocol(number) or Protocol(NOT_KNOWN)
    return [
        (name, _text(one), _text(other))
        for name, one, other in (
            ("epochs", theirs.epochs, ours.epochs),
            ("batch size", theirs.batch_size, ours.batch_size),
            ("learning rate", theirs.lr, ours.lr),
            ("schedule", theirs.schedule, ours.schedule),
            ("weight decay", theirs.weight_decay, ours.weight_decay),
            ("crops and flips", theirs.augment, ours.augment),
            ("reported epoch", theirs.epoch, "last"),
            ("share trained on", theirs.share, TRAINED_ON),
            ("test images cropped", theirs.test_augment, False),
        )
    ]


def protocol(number: Mapping[Any, Any]) -> Protocol | None:
    """What is known of the training behind a row of the published table, or None."""
    return _PROTOCOLS.get((str(number["paper"]), str(number["dataset"]), str(number["model"])))


def _text(value: float | str | None) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return NOT_KNOWN if value is None else str(value)
