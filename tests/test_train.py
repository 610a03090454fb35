"""Masked training: zeros stay zeros everywhere, a seed decides everything, and the arithmetic is the textbook's.

The twin (`reference.train`) is a plain float32 loop over the same order of examples: no fused optimizer, no
channels-last, masks by multiplication, cross entropy one example after the other.
"""

import copy
import dataclasses
import math
import sys

import pytest
import reference
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import pruneviz as pv
from pruneviz import data as data_module
from pruneviz.errors import InputError
from pruneviz.evaluate import evaluate

HUGE = 1e12


def toy(n=40, *, validation=0.2, channels=2, size=6, classes=4, noise=60, **more):
    """Random images whose class shows in their brightness, more or less."""
    generator = torch.Generator().manual_seed(0)
    y = torch.arange(n) % classes
    base = torch.randint(0, noise, (n, channels, size, size), generator=generator)
    x = (base + (y * (195 // classes)).view(-1, 1, 1, 1)).to(torch.uint8)
    test = torch.randperm(n, generator=generator)[: n // 2]
    return data_module.from_tensors(
        "toy", x, y, x[test], y[test], classes=classes, validation=validation, seed=0, **more
    )


def convolutional(channels=2, classes=4, seed=0, dropout=0.0):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Conv2d(channels, 6, 3, bias=False),
            nn.BatchNorm2d(6),
            nn.ReLU(),
            nn.Conv2d(6, 4, 3),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Flatten(),
            nn.Linear(16, classes),
        )


def some_masks(model, density=0.5, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return {n: torch.rand(p.shape, generator=generator) < density for n, p in model.named_parameters() if p.dim() > 1}


def recipe(**changes):
    given = {"epochs": 3, "batch_size": 8, "lr": 0.1, "weight_decay": 5e-3, "schedule": "constant"} | changes
    return pv.Recipe("test", **given)


def state(model):
    return {n: t.clone() for n, t in model.state_dict().items()}


def equal(one, other):
    return all(torch.equal(one[n], other[n]) for n in one)


def run(model=None, masks=None, data=None, of=None, seed=0, **options):
    model = convolutional() if model is None else model
    options = {"precision": "float32", "progress": False} | options
    return model, pv.train(model, masks, toy() if data is None else data, of or recipe(), seed, **options)


# Pruned weights ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("precision", ["float32", "bf16"])
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"nesterov": True},
        {"momentum": 0.0},
        {"schedule": "cosine", "warmup": 1.0, "label_smoothing": 0.1},
        {"lr": HUGE, "weight_decay": 0.1},
    ],
    ids=["momentum", "nesterov", "plain", "cosine", "diverging"],
)
def test_pruned_weights_are_zero_in_the_weights_and_in_the_optimizer_after_each_epoch(precision, changes):
    model = convolutional()
    masks = some_masks(model)
    epochs, tensors = [], 0

    def observe(epoch, seen, optimizer):
        nonlocal tensors
        assert seen is model
        epochs.append(epoch)
        for name, mask in masks.items():
            parameter = dict(model.named_parameters())[name]
            assert not parameter.detach()[~mask].any(), name
            for kept in optimizer.state[parameter].values():
                if isinstance(kept, torch.Tensor) and kept.shape == mask.shape:
                    assert not kept[~mask].any(), name
                    assert kept[mask].any()
                    tensors += 1

    _, result = run(model, masks, of=recipe(**changes), precision=precision, observe=observe)
    assert epochs == list(range(result.epochs))
    assert tensors == (0 if changes.get("momentum") == 0.0 else 3 * len(epochs))
    for name, mask in masks.items():
        weight = dict(model.named_parameters())[name].detach()
        assert not weight[~mask].any()
        assert weight[mask].all()
    assert result.diverged == (changes.get("lr") == HUGE)


def test_kept_weights_train_and_a_dense_layer_beside_a_masked_one_stays_dense():
    model = convolutional()
    before = state(model)
    masks = {"3.weight": some_masks(model)["3.weight"]}
    run(model, masks)
    assert bool((model[3].weight[masks["3.weight"]] != before["3.weight"][masks["3.weight"]]).all())
    assert bool((model[0].weight != before["0.weight"]).all())
    assert bool(model[0].weight.all())


def test_a_shared_weight_that_is_masked_stays_zero():
    model = nn.Sequential(nn.Flatten(), nn.Linear(9, 9), nn.ReLU(), nn.Linear(9, 9), nn.ReLU(), nn.Linear(9, 4))
    model[3].weight = model[1].weight
    masks = {"1.weight": some_masks(model)["1.weight"]}
    run(model, masks, toy(channels=1, size=3))
    assert model[3].weight is model[1].weight
    assert not model[3].weight[~masks["1.weight"]].any()


def test_masks_of_ones_train_as_no_masks_do_bit_for_bit():
    dense, dense_result = run()
    model = convolutional()
    ones = {n: torch.ones_like(m) for n, m in some_masks(model).items()}
    _, result = run(model, ones)
    assert equal(state(model), state(dense))
    assert result.train_loss == dense_result.train_loss


def test_a_mask_that_does_not_fit_is_one_line_and_trains_nothing():
    model = convolutional()
    before = state(model)
    with pytest.raises(InputError, match=r"the mask names '0.wieght', which is no parameter"):
        run(model, {"0.wieght": torch.ones(6, 2, 3, 3, dtype=torch.bool)})
    assert equal(before, state(model))


# The arithmetic ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("masked", [False, True], ids=["dense", "masked"])
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"nesterov": True, "schedule": "cosine", "warmup": 0.5},
        {"momentum": 0.0, "weight_decay": 0.0},
        {"schedule": "step", "milestones": (0.4, 0.8), "gamma": 0.2, "label_smoothing": 0.1},
    ],
    ids=["momentum", "nesterov-cosine-warmup", "plain", "step-smoothing"],
)
def test_against_a_textbook_loop(changes, masked):
    data, of = toy(), recipe(epochs=2, batch_size=7, **changes)  # 32 examples: a last batch of 4
    model, twin = convolutional(), convolutional()
    masks = some_masks(model) if masked else None
    _, result = run(model, masks, data, of, seed=3)
    losses = reference.train(twin, masks, data, of, seed=3)
    assert result.train_loss == pytest.approx(losses, rel=1e-5)
    for (name, ours), theirs in zip(model.named_parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6, msg=lambda m, n=name: f"{n}: {m}")
    for (name, ours), theirs in zip(model.named_buffers(), twin.buffers(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6, msg=lambda m, n=name: f"{n}: {m}")
    before = convolutional()
    assert float((model[3].weight - before[3].weight).detach().abs().max()) > 1e-3  # far more than the tolerance


@pytest.mark.parametrize("schedule", ["step", "cosine", "constant"])
@pytest.mark.parametrize("warmup", [0.0, 2.0])
def test_the_learning_rate_of_every_step_is_the_formulas(schedule, warmup):
    of = recipe(epochs=4, schedule=schedule, warmup=warmup, milestones=(0.5, 0.75), gamma=0.1)
    steps = 4 * math.ceil(32 / 8)
    for step in range(steps):
        assert of.lr_at(step / steps) == pytest.approx(reference.learning_rate(of, step, steps), rel=1e-12, abs=1e-15)


@settings(deadline=None, derandomize=True, max_examples=50)
@given(st.integers(1, 300), st.integers(1, 50), st.sampled_from(["step", "cosine", "constant"]), st.floats(0, 1))
def test_the_learning_rate_is_never_above_its_peak_and_never_negative(epochs, per_epoch, schedule, warm):
    of = recipe(epochs=epochs, schedule=schedule, warmup=warm * epochs)
    steps = epochs * per_epoch
    for step in (0, 1, steps // 3, steps // 2, steps - 1):
        rate = of.lr_at(step / steps)
        assert 0.0 <= rate <= of.lr
        assert rate == pytest.approx(reference.learning_rate(of, step, steps), rel=1e-9, abs=1e-15)


def test_the_learning_rate_by_hand():
    step = pv.Recipe("r", epochs=160)  # 0.1, divided by 10 at epochs 80 and 120
    assert [step.lr_at(e / 160) for e in (0, 79, 80, 119, 120, 159)] == pytest.approx(
        [0.1, 0.1, 0.01, 0.01, 1e-3, 1e-3]
    )
    cosine = pv.Recipe("r", epochs=10, lr=0.4, schedule="cosine")
    assert [cosine.lr_at(p) for p in (0.0, 0.5, 1.0)] == pytest.approx([0.4, 0.2, 0.0])
    warm = pv.Recipe("r", epochs=10, lr=0.4, schedule="constant", warmup=2.0)
    assert [warm.lr_at(e / 10) for e in (0, 1, 2, 9)] == pytest.approx([0.0, 0.2, 0.4, 0.4])


def test_the_optimizer_is_given_the_rate_of_the_recipe():
    rates = []
    of = recipe(epochs=4, schedule="cosine")
    run(of=of, observe=lambda epoch, model, optimizer: rates.append(optimizer.param_groups[0]["lr"]))
    assert rates == pytest.approx([of.lr_at((4 * epoch + 3) / 16) for epoch in range(4)])  # of each epoch's last step


def test_label_smoothing_is_off_unless_asked_for():
    assert pv.Recipe("r", epochs=1).label_smoothing == 0.0
    assert all(of.label_smoothing == 0.0 for of in pv.RECIPES.values())
    plain, smooth = run(of=recipe(epochs=1))[1], run(of=recipe(epochs=1, label_smoothing=0.2))[1]
    assert plain.train_loss != smooth.train_loss


# What is reported ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("part", ["validation", "test"])
def test_evaluate_against_a_loop_over_single_images(part):
    data = toy(60)
    model = convolutional()
    run(model, None, data, recipe(epochs=1))
    x, y = getattr(data, f"{part}_x"), getattr(data, f"{part}_y")
    loss, accuracy = evaluate(model, data, x, y)
    assert (loss, accuracy) == pytest.approx(reference.evaluate(model, data, x, y), rel=1e-5)
    assert 0 < accuracy < 1 or part == "validation"


def test_evaluate_in_several_batches_and_puts_the_modes_back(monkeypatch):
    data, model = toy(60), convolutional(dropout=0.5)
    model.train()
    model[1].eval()
    modes = [m.training for m in model.modules()]
    before = state(model)
    whole = evaluate(model, data, data.test_x, data.test_y)
    monkeypatch.setattr(sys.modules["pruneviz.evaluate"], "EVALUATION_BATCH", 7)
    assert evaluate(model, data, data.test_x, data.test_y) == pytest.approx(whole, rel=1e-6)
    assert [m.training for m in model.modules()] == modes
    assert equal(before, state(model))
    nothing = evaluate(model, data, data.test_x[:0], data.test_y[:0])
    assert all(math.isnan(value) for value in nothing)


def test_the_last_epoch_is_reported_and_not_the_best():
    # A rate so high that the accuracy jumps up and down from epoch to epoch.
    data, seen = toy(60), []

    def observe(epoch, model, optimizer):
        seen.append(
            (
                *evaluate(model, data, data.test_x, data.test_y),
                *evaluate(model, data, data.validation_x, data.validation_y),
            )
        )

    _, result = run(data=data, of=recipe(epochs=12, lr=0.05), observe=observe, seed=1)
    test_loss, test_accuracy, *_ = seen[-1]
    assert result.test_loss == pytest.approx(test_loss)
    assert result.test_accuracy == pytest.approx(test_accuracy)
    assert max(one[1] for one in seen) > test_accuracy + 0.05  # an earlier epoch was better
    assert result.validation_loss == pytest.approx([one[2] for one in seen])
    assert result.validation_accuracy == pytest.approx([one[3] for one in seen])


def test_curves_have_one_entry_per_epoch_and_everything_is_a_plain_number():
    _, result = run()
    assert result.epochs == 3
    for curve in (result.train_loss, result.train_accuracy, result.validation_loss, result.validation_accuracy):
        assert len(curve) == 3
        assert all(type(value) is float and math.isfinite(value) for value in curve)
    assert all(0 <= a <= 1 for a in (*result.train_accuracy, *result.validation_accuracy, result.test_accuracy))
    assert result.diverged is False
    assert result.seconds > 0
    assert result.images_per_second > 0
    with pytest.raises(dataclasses.FrozenInstanceError):
        result.test_accuracy = 1.0


def test_training_accuracy_is_counted_over_the_batches_that_were_trained_on():
    # With a rate of almost zero every batch sees the initial weights: their accuracy in train mode.
    data, model = toy(), convolutional()
    twin = copy.deepcopy(model).train()
    _, result = run(model, None, data, recipe(epochs=1, lr=1e-30, batch_size=32))
    output = twin(reference.normalized(data, data.train_x))
    assert result.train_accuracy[0] == pytest.approx(float((output.argmax(1) == data.train_y).float().mean()))
    assert result.train_loss[0] == pytest.approx(
        float(reference.cross_entropy(output, data.train_y).detach()), rel=1e-5
    )


def test_without_a_validation_part_its_curves_are_not_a_number():
    _, result = run(data=toy(validation=0.0))
    assert all(math.isnan(value) for value in result.validation_loss + result.validation_accuracy)
    assert math.isfinite(result.test_loss)


@pytest.mark.parametrize("lr", [HUGE, 1e300], ids=["huge", "infinite in float32"])
@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_divergence_is_a_result(precision, lr):
    model = convolutional()
    masks = some_masks(model)
    _, result = run(model, masks, of=recipe(epochs=6, lr=lr), precision=precision)
    assert result.diverged is True
    assert 1 <= result.epochs < 6
    assert len(result.train_loss) == len(result.validation_accuracy) == result.epochs
    assert not math.isfinite(result.train_loss[-1])
    assert 0 <= result.test_accuracy <= 1
    for name, mask in masks.items():
        weight = dict(model.named_parameters())[name].detach()
        assert bool((weight[~mask] == 0).all())
        assert not bool(weight[mask].isfinite().all())


def test_images_that_are_learnt_are_learnt():
    _, result = run(data=toy(80, noise=20), of=recipe(epochs=20, lr=0.03, schedule="cosine"))
    assert result.train_loss[-1] < 0.5 * result.train_loss[0]
    assert result.test_accuracy > 0.9


# Seeds ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_a_seed_decides_every_bit(precision):
    data = toy(pad=1, flip=True)
    runs = []
    for seed in (5, 5, 6):
        torch.rand(1)  # the global generator is somewhere else each time
        model = convolutional(dropout=0.3)
        _, result = run(model, some_masks(model), data, seed=seed, precision=precision)
        runs.append((state(model), result))
    assert equal(runs[0][0], runs[1][0])
    assert runs[0][1].train_loss == runs[1][1].train_loss
    assert runs[0][1].test_loss == runs[1][1].test_loss
    assert not torch.equal(runs[0][0]["0.weight"], runs[2][0]["0.weight"])


def test_the_global_generator_is_where_it_was():
    before = torch.get_rng_state()
    run(convolutional(dropout=0.3), data=toy(pad=1, flip=True))
    assert torch.equal(torch.get_rng_state(), before)


def test_the_order_of_the_examples_depends_on_the_seed_alone():
    results = [run(of=recipe(epochs=1), seed=seed)[1].train_loss for seed in (0, 0, 1)]
    assert results[0] == results[1] != results[2]


def test_gradients_that_were_left_behind_do_not_enter_the_first_step():
    clean, _ = run()
    model = convolutional()
    for p in model.parameters():
        p.grad = torch.full_like(p, 1e3)
    run(model)
    assert equal(state(clean), state(model))
    assert all(p.grad is None for p in model.parameters())


def test_a_model_that_was_in_evaluation_mode_trains_like_any_other():
    plain, _ = run(convolutional(dropout=0.3))
    model, _ = run(convolutional(dropout=0.3).eval())
    assert equal(state(plain), state(model))


def test_the_data_and_the_masks_are_not_changed():
    data, model = toy(pad=1, flip=True), convolutional()
    masks = some_masks(model)
    copies = data.train_x.clone(), {n: m.clone() for n, m in masks.items()}
    run(model, masks, data)
    assert torch.equal(data.train_x, copies[0])
    assert equal(copies[1], masks)


# Options -------------------------------------------------------------------------------------------------


def test_augmentation_is_the_recipes_choice():
    data = toy(pad=1, flip=True)
    with_, without = (run(data=data, of=recipe(epochs=1, augment=on))[1].train_loss for on in (True, False))
    assert with_ != without
    twin = convolutional()
    assert without == pytest.approx(reference.train(twin, None, data, recipe(epochs=1), 0), rel=1e-5)


def test_both_precisions_run_and_are_close_but_not_equal():
    single, brain = (run(of=recipe(epochs=1), precision=p)[1] for p in ("float32", "bf16"))
    assert single.train_loss != brain.train_loss
    assert brain.train_loss == pytest.approx(single.train_loss, rel=0.1)
    model, _ = run(precision="bf16")
    assert all(p.dtype == torch.float32 for p in model.parameters())


def test_bf16_is_the_default():
    model = convolutional()
    result = pv.train(model, None, toy(), recipe(epochs=1), progress=False)
    assert result.train_loss == run(of=recipe(epochs=1), precision="bf16")[1].train_loss


def test_nothing_is_printed(capfd):
    run(progress=True)
    run(progress=False)
    captured = capfd.readouterr()
    assert captured.out == captured.err == ""  # the bar is for terminals


def test_digits_train_in_seconds_with_a_masked_network_of_the_library():
    data = data_module.load("digits", fraction=0.5)
    model = pv.models.create("lenet_300_100", input_shape=data.input_shape, classes=data.classes)
    problem = pv.Problem(model, data_module.scoring_batches(data, per_class=5))
    masks = pv.prune(problem, "snip", 0.9)
    result = pv.train(model, masks, data, dataclasses.replace(pv.RECIPES["smoke"], epochs=4), progress=False)
    assert result.test_accuracy > 0.8
    kept = sum(int(p.count_nonzero()) for n, p in model.named_parameters() if n in masks)
    assert kept <= pv.masks.kept(masks) == round(0.1 * pv.masks.total(masks))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"precision": "fp16"}, "precision 'fp16' is not known; .*accepted: bf16, float32"),
        ({"precision": None}, "precision None is not known"),
    ],
)
def test_an_unknown_precision_is_one_line(options, says):
    with pytest.raises(InputError, match=says):
        run(**options)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"epochs": 0}, "epochs 0 is not accepted: give a whole number of at least 1"),
        ({"epochs": 1.5}, "epochs 1.5 is not accepted"),
        ({"batch_size": -1}, "batch_size -1 is not accepted"),
        ({"lr": 0.0}, "lr 0.0 is not accepted: give a finite number greater than 0"),
        ({"lr": float("nan")}, "lr nan is not accepted"),
        ({"schedule": "cosin"}, "learning rate schedule 'cosin' is not known; did you mean 'cosine'"),
        ({"momentum": -0.5}, "momentum -0.5 is not accepted"),
        ({"momentum": "much"}, "momentum 'much' is not accepted"),
        ({"weight_decay": float("nan")}, "weight_decay nan is not accepted"),
        ({"weight_decay": -1e-4}, "weight_decay -0.0001 is not accepted"),
        ({"warmup": -1.0}, "warmup -1.0 is not accepted"),
        ({"label_smoothing": 1.5}, "label_smoothing 1.5 is not accepted"),
        ({"gamma": 0.0}, "gamma 0.0 is not accepted"),
        ({"milestones": (0.5, "late")}, "milestone 'late' is not accepted"),
        ({"nesterov": True, "momentum": 0.0}, "nesterov needs a momentum greater than 0"),
    ],
)
def test_a_recipe_that_cannot_be_followed_is_one_line(changes, says):
    with pytest.raises(InputError, match=says) as caught:
        recipe(**changes)
    assert "\n" not in str(caught.value)


def test_recipes_are_named_as_they_are_listed():
    assert all(name == of.name for name, of in pv.RECIPES.items())
    assert {"smoke", "cifar_10ep"} <= set(pv.RECIPES)
