"""Changing masks while training: the rules against loops over single weights, the counts at every moment, the loop.

The twins sort plain lists; none of them uses the library's selection.
"""

from __future__ import annotations

import importlib
import math
from collections import Counter

import pytest
import reference
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_train import convolutional, equal, recipe, run, some_masks, state, toy
from torch import nn
from torch.nn import functional as F

import pruneviz as pv
from pruneviz.baselines import make, reparameterization, rigl, sparse_evolution
from pruneviz.baselines.dynamic import Rewirer

SHAPE = (3, 4)
seeds = st.integers(0, 10_000)
quick = settings(deadline=None, derandomize=True, max_examples=60)


def layer(seed: int, density: float, shape: tuple[int, ...] = SHAPE) -> tuple[torch.Tensor, ...]:
    """Weights with ties, gradients with ties, a mask; removed weights are zero."""
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randint(-4, 5, shape, generator=generator) / 8
    gradient = torch.randint(-4, 5, shape, generator=generator) / 8
    mask = torch.rand(shape, generator=generator) < density
    return weight.double() * mask, gradient.double(), mask


def kept(mask: torch.Tensor) -> set[int]:
    return {i for i, on in enumerate(mask.flatten().tolist()) if on}


# RigL ----------------------------------------------------------------------------------------------------


@quick
@given(seeds, st.floats(0, 1), st.floats(0, 1))
def test_rigl_against_a_loop(seed: int, density: float, share: float) -> None:
    weight, gradient, mask = layer(seed, density)
    w, g, before = weight.flatten().tolist(), gradient.flatten().tolist(), kept(mask)
    k = math.floor(share * len(before))
    stay = set(sorted(before, key=lambda i: (-abs(w[i]), i))[: len(before) - k])
    rest = [i for i in range(len(w)) if i not in stay]
    grow = set(sorted(rest, key=lambda i: (-abs(g[i]), i))[:k])
    after = rigl.exchange(weight, gradient, mask, share)
    assert kept(after) == stay | grow
    assert int(after.sum()) == int(mask.sum())


def test_rigl_by_hand() -> None:
    weight = torch.tensor([0.5, -0.1, 0.0, 0.3, 0.0, 0.0])
    mask = torch.tensor([True, True, False, True, False, False])
    gradient = torch.tensor([9.0, 0.1, -0.2, 9.0, 0.3, 0.0])
    assert rigl.exchange(weight, gradient, mask, 0.34).tolist() == [True, False, False, True, True, False]
    gradient[1] = -0.4  # what was dropped may come back at once
    assert rigl.exchange(weight, gradient, mask, 0.34).tolist() == mask.tolist()


def test_the_share_falls_along_a_cosine() -> None:
    assert [rigl.decayed(0.3, t, 90) for t in (0, 30, 45, 60, 90)] == pytest.approx([0.3, 0.225, 0.15, 0.075, 0.0])


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        ("rigl", {"every": 4}, [4, 8, 12]),  # 5 epochs of 4 steps, of which three quarters are 15
        ("rigl", {"every": 5, "stop": 1.0}, [5, 10, 15]),
        ("rigl", {"every": 5, "stop": 0.5}, [5]),
        ("rigl", {}, []),
        ("dsr", {"every": 7, "stop": 1}, [7, 14]),
        ("set", {}, [4, 8, 12, 16]),
        ("set", {"every": 9}, [9, 18]),
    ],
)
def test_masks_change_at_these_steps(name: str, options: dict[str, float], expected: list[int]) -> None:
    assert list(make(name, options).moments(recipe(epochs=5), 4)) == expected  # type: ignore[attr-defined]


# SET -----------------------------------------------------------------------------------------------------


@quick
@given(seeds, st.floats(0, 1), st.floats(0.01, 1))
def test_set_against_a_loop(seed: int, density: float, share: float) -> None:
    weight, _, mask = layer(seed, density)
    w, before = weight.flatten().tolist(), kept(mask)
    stay = set(before)
    for sign in ([i for i in before if w[i] >= 0], [i for i in before if w[i] < 0]):
        stay -= set(sorted(sign, key=lambda i: (abs(w[i]), -i))[: math.floor(share * len(sign))])
    after = kept(sparse_evolution.exchange(weight, mask, share, torch.Generator().manual_seed(seed)))
    assert stay <= after
    assert len(after) == len(before)


def test_what_grows_at_random_is_uniform() -> None:
    mask = torch.tensor([[True, False, False], [False, False, True]])
    generator = torch.Generator().manual_seed(0)
    drawn = Counter(frozenset(kept(sparse_evolution.grow_at_random(mask, 2, generator))) for _ in range(3000))
    assert len(drawn) == math.comb(4, 2)
    assert all(abs(count - 500) < 5 * math.sqrt(500) for count in drawn.values())


# DSR -----------------------------------------------------------------------------------------------------


@quick
@given(seeds, st.floats(0.05, 1), st.floats(0.01, 0.6))
def test_dsr_keeps_the_total_and_the_survivors(seed: int, density: float, threshold: float) -> None:
    layers = {
        name: layer(seed + i, density, shape) for i, (name, shape) in enumerate({"a": (3, 4), "b": (40,)}.items())
    }
    weights, masks = {n: one[0] for n, one in layers.items()}, {n: one[2] for n, one in layers.items()}
    after, dropped = reparameterization.redistribute(weights, masks, threshold, torch.Generator().manual_seed(seed))
    survivors = {
        name: {i for i in kept(mask) if abs(weights[name].flatten().tolist()[i]) >= threshold}
        for name, mask in masks.items()
    }
    assert dropped == sum(len(kept(masks[n])) - len(survivors[n]) for n in masks)
    if after is None:
        assert dropped == 0 or not any(survivors.values())
        return
    assert all(survivors[n] <= kept(after[n]) for n in masks)
    assert sum(len(kept(m)) for m in after.values()) == sum(len(kept(m)) for m in masks.values())
    left = sum(map(len, survivors.values()))
    claims = {n: dropped * len(survivors[n]) / left for n in masks}
    if all(claims[n] + len(survivors[n]) <= masks[n].numel() for n in masks):  # no layer is full
        for n in masks:
            assert abs(len(kept(after[n])) - len(survivors[n]) - claims[n]) < 1


def test_dsr_by_hand() -> None:
    weights = {"a": torch.tensor([0.5, 0.4, 0.3, 0.01, 0.0, 0.0]), "b": torch.tensor([0.2, 0.01, 0.01, 0.01, 0.0])}
    masks = {name: w != 0 for name, w in weights.items()}
    after, dropped = reparameterization.redistribute(weights, masks, 0.1, torch.Generator().manual_seed(0))
    assert dropped == 4
    assert after is not None
    assert {name: int(mask.sum()) for name, mask in after.items()} == {"a": 6, "b": 2}  # three survive, and one
    full = {"a": weights["a"][:4], "b": weights["b"]}  # a has room for one only
    after, _ = reparameterization.redistribute(full, {n: w != 0 for n, w in full.items()}, 0.1, torch.Generator())
    assert after is not None
    assert {name: int(mask.sum()) for name, mask in after.items()} == {"a": 4, "b": 4}


def test_the_threshold_follows_what_was_dropped() -> None:
    assert [reparameterization.adjusted(0.5, n, 100, 0.1) for n in (0, 89, 90, 110, 111)] == [1.0, 1.0, 0.5, 0.5, 0.25]


# The loop ------------------------------------------------------------------------------------------------


def test_a_rewirer_that_never_changes_anything_changes_nothing() -> None:
    masks = some_masks(convolutional())
    plain, one = run(convolutional(), masks)
    watched, other = run(convolutional(), masks, rewire=lambda step, model: None)
    assert equal(state(plain), state(watched))
    assert one.train_loss == other.train_loss


def test_a_step_at_which_masks_change_is_not_taken() -> None:
    masks = some_masks(convolutional())
    model = convolutional()
    pv.apply(model, masks)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    run(model, masks, rewire=lambda step, model: masks)
    assert all(torch.equal(before[name], p) for name, p in model.named_parameters())


def test_gradients_are_dense_when_masks_may_change_and_masked_when_they_are_recorded() -> None:
    """The gradient of removed weights is that of a plain backward pass through zeros."""
    data, model = toy(), convolutional()
    masks = some_masks(model)
    twin = convolutional()
    pv.apply(twin, masks)
    seen, recorded = {}, {}
    order = torch.randperm(len(data.train_y), generator=torch.Generator().manual_seed(0))[:8]
    twin.train()
    F.cross_entropy(twin(reference.normalized(data, data.train_x[order])), data.train_y[order]).backward()

    def rewire(step: int, model: nn.Module) -> None:
        if step == 0:
            seen.update({name: p.grad.clone() for name, p in model.named_parameters()})

    def record(step: int, model: nn.Module, loss: torch.Tensor) -> None:
        if step == 0:
            recorded.update({name: p.grad.clone() for name, p in model.named_parameters()})

    run(model, masks, data, recipe(epochs=1), rewire=rewire, record=record)
    for name, mask in masks.items():
        expected = twin.get_parameter(name).grad
        assert expected is not None
        assert expected[~mask].any()
        torch.testing.assert_close(seen[name], expected, rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(recorded[name], expected * mask, rtol=1e-4, atol=1e-6)


def test_rigl_against_a_plain_training_loop() -> None:
    """A twin with momentum by hand and sorted lists; every third step exchanges instead of learning."""
    data, of = toy(), recipe(epochs=3, batch_size=8, weight_decay=5e-3)
    problem = pv.Problem(convolutional(), [(torch.zeros(2, 2, 6, 6), torch.tensor([0, 1]))])
    found = pv.baselines.run("rigl", problem, data, of, 0.6, precision="float32", progress=False, every=3, stop=1.0)
    model = convolutional()
    masks = pv.allocate(pv.score("random", problem, seed=0), 0.6, "erk")
    pv.apply(model, masks)
    generator = torch.Generator().manual_seed(0)
    momentum = {name: torch.zeros_like(p) for name, p in model.named_parameters()}
    step, changed = 0, 0
    for _ in range(of.epochs):
        for index in torch.randperm(len(data.train_y), generator=generator).split(8):
            model.zero_grad()
            F.cross_entropy(model(reference.normalized(data, data.train_x[index])), data.train_y[index]).backward()
            with torch.no_grad():
                for name, p in model.named_parameters():
                    assert p.grad is not None
                    if step and step % 3 == 0 and name in masks:
                        share = 0.15 * (1 + math.cos(math.pi * step / 12))
                        new = _exchanged(p.flatten().tolist(), p.grad.flatten().tolist(), kept(masks[name]), share)
                        changed += len(new - kept(masks[name]))
                        masks[name] = torch.tensor([i in new for i in range(p.numel())]).view(p.shape)
                        p *= masks[name]
                        momentum[name] *= masks[name]
                    elif not step or step % 3:
                        g = (p.grad + of.weight_decay * p) * masks.get(name, torch.tensor(1.0))
                        momentum[name] = of.momentum * momentum[name] + g
                        p -= of.lr * momentum[name]
            step += 1
    assert changed > 10
    assert found.rewires == 3
    for name, mask in masks.items():
        assert torch.equal(found.masks[name], mask), name
    for name, p in model.named_parameters():
        torch.testing.assert_close(found.model.get_parameter(name), p, rtol=1e-3, atol=1e-5)


def _exchanged(w: list[float], g: list[float], before: set[int], share: float) -> set[int]:
    k = math.floor(share * len(before))
    stay = set(sorted(before, key=lambda i: (-abs(w[i]), i))[: len(before) - k])
    return stay | set(sorted(set(range(len(w))) - stay, key=lambda i: (-abs(g[i]), i))[:k])


@pytest.mark.parametrize(
    ("name", "options"), [("set", {"every": 2}), ("rigl", {"every": 2}), ("dsr", {"every": 2, "threshold": 0.02})]
)
@pytest.mark.parametrize("sparsity", [0.0, 0.5, 0.9])
def test_counts_are_exact_at_every_moment(
    name: str, options: dict[str, float], sparsity: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    problem = pv.Problem(convolutional(), [(torch.zeros(2, 2, 6, 6), torch.tensor([0, 1]))])
    total = sum(w.numel() for w in problem.weights.values())
    per_layer, came_back = [], 0
    call = Rewirer.__call__

    def watched(self: Rewirer, step: int, model: nn.Module) -> pv.Masks | None:
        nonlocal came_back
        before = {n: m.clone() for n, m in self.masks.items()}
        for n, mask in before.items():
            assert not model.get_parameter(n).detach()[~mask].any()  # what comes back starts at zero
        masks = call(self, step, model)
        came_back += sum(int((m & ~before[n]).sum()) for n, m in self.masks.items())
        per_layer.append({n: int(m.sum()) for n, m in self.masks.items()})
        return masks

    monkeypatch.setattr(Rewirer, "__call__", watched)
    done = pv.baselines.run(name, problem, toy(), recipe(epochs=4, lr=0.05), sparsity, progress=False, **options)
    assert {sum(counts.values()) for counts in per_layer} == {round((1 - sparsity) * total)}
    if name != "dsr":
        assert all(counts == per_layer[0] for counts in per_layer)
    assert (came_back > 0) == (sparsity > 0)
    weights = {n: done.model.get_parameter(n).detach() for n in done.masks}
    assert not any(bool(w[~done.masks[n]].any()) for n, w in weights.items())


@pytest.mark.parametrize(
    ("name", "options"), [("set", {"every": 2}), ("rigl", {"every": 2}), ("dsr", {"every": 2, "threshold": 0.02})]
)
def test_what_is_dropped_and_grown_in_one_change_keeps_value_and_momentum_and_the_card_says_so(
    name: str, options: dict[str, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where nothing is removed, all that is dropped comes back at once."""
    module, states = importlib.import_module("pruneviz.train"), []
    rewire = module._rewired

    def both(model: nn.Module, optimizer: torch.optim.Optimizer) -> list[torch.Tensor]:
        return [t.clone() for p in model.parameters() for t in (p.detach(), optimizer.state[p]["momentum_buffer"])]

    def watched(model: nn.Module, optimizer: torch.optim.Optimizer, masks: pv.Masks) -> object:
        before = both(model, optimizer)
        found = rewire(model, optimizer, masks)
        states.append((before, both(model, optimizer)))
        return found

    monkeypatch.setattr(module, "_rewired", watched)
    problem = pv.Problem(convolutional(), [(torch.zeros(2, 2, 6, 6), torch.tensor([0, 1]))])
    pv.baselines.run(name, problem, toy(), recipe(epochs=4, lr=0.05), 0.0, progress=False, **options)
    assert states
    assert all(torch.equal(a, b) and a.any() for before, after in states for a, b in zip(before, after, strict=True))
    card = pv.baselines.cards()[name]
    assert "dropped and grown in the same change" in " ".join(card.disagreements + card.deviations)
