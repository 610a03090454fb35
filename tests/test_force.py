"""FORCE against explicit mask variables, finite differences, the paper's loop, and by hand: weights come back."""

import itertools

import networks
import pytest
import reference_force
import torch
from networks import close

import pruneviz as pv
from pruneviz.errors import InputError

SMOOTH = ("bias_free", "depthwise", "conv_transpose", "tied", "transformer")


@pytest.mark.parametrize("masked", [False, True], ids=["dense", "masked"])
@pytest.mark.parametrize("batchnorm", ["train", "eval"])
@pytest.mark.parametrize("name", networks.IDS)
def test_it_is_the_derivative_with_respect_to_explicit_masks_removed_ones_included(name, batchnorm, masked):
    problem = networks.problem(name, batchnorm=batchnorm)
    masks = networks.random_masks(problem) if masked else None
    close(pv.score("force", problem, masks=masks), reference_force.force_by_masks(problem, masks))


@pytest.mark.parametrize("name", SMOOTH)
def test_it_is_what_the_loss_does_when_one_mask_moves(name):
    problem = networks.problem(name)
    masks = networks.random_masks(problem)
    scores = pv.score("force", problem, masks=masks)
    close(scores, reference_force.force_by_differences(problem, masks), rtol=1e-6)
    assert any(bool(s[~masks[layer]].any()) for layer, s in scores.items())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
def test_in_one_shot_it_is_snip_bit_for_bit(dtype):
    problem = networks.problem("residual", dtype=dtype)
    snip = pv.score("snip", problem)
    assert all(torch.equal(s, snip[n]) for n, s in pv.score("force", problem).items())
    force = pv.prune(problem, "force", 0.7, schedule="one_shot")
    assert all(torch.equal(m, force[n]) for n, m in pv.prune(problem, "snip", 0.7).items())


def test_of_kept_weights_it_is_snip_on_the_pruned_network():
    problem = networks.problem("residual")
    masks = networks.random_masks(problem)
    force, snip = (pv.score(scorer, problem, masks=masks) for scorer in ("force", "snip"))
    for name, mask in masks.items():
        torch.testing.assert_close(force[name][mask], snip[name][mask], rtol=0, atol=0)
        assert not bool(snip[name][~mask].any())


@pytest.mark.parametrize("steps", [2, 5, 12])
@pytest.mark.parametrize("name", ["mlp_relu", "residual", "tied", "transformer"])
def test_against_the_papers_loop_step_by_step(name, steps, monkeypatch):
    """The masks that every step starts from, and the last ones, are those of the loop; each has its exact count."""
    problem, schedule = networks.problem(name), pv.Exponential(steps)
    seen, gradient = [], pv.Problem.gradient

    def recording(self, weights, **options):
        seen.append({n: w != 0 for n, w in weights.items()})
        return gradient(self, weights, **options)

    monkeypatch.setattr(pv.Problem, "gradient", recording)
    final = pv.prune(problem, "force", 0.6, schedule=schedule)
    monkeypatch.undo()
    expected = reference_force.prune(problem, [1 - s for s in schedule.sparsities(0.6)])
    assert len(seen) == steps
    for masks, loop, sparsity in zip([*seen[1:], final], expected, schedule.sparsities(0.6), strict=True):
        assert {n: m.tolist() for n, m in masks.items()} == {n: m.tolist() for n, m in loop.items()}
        assert pv.masks.kept(masks) == round((1 - sparsity) * pv.masks.total(masks))


def test_weights_really_come_back_in_that_loop():
    problem = networks.problem("transformer")
    history = reference_force.prune(problem, [1 - s for s in pv.Exponential(12).sparsities(0.6)])
    came_back = sum(
        int((later[n] & ~earlier[n]).sum()) for earlier, later in itertools.pairwise(history) for n in later
    )
    assert came_back > 0


def squared_error(output, y):
    return 0.5 * (output - y).square().sum(1).mean()


def by_hand():
    """Two outputs of two weights each. The first is right as it is, so that its weights seem not to matter."""
    model = torch.nn.Linear(2, 2, bias=False, dtype=torch.float64)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[2.0, 1.0], [1.0, 0.5]]))
    x, y = torch.ones(1, 2, dtype=torch.float64), torch.tensor([[3.0, 0.0]], dtype=torch.float64)
    return pv.Problem(model, [(x, y)], squared_error)


def test_golden_masks_a_weight_comes_back_when_its_absence_is_felt():
    """Step 1: errors 0 and 1.5, scores [[0, 0], [1.5, 0.75]]. Without the first output: errors -3 and 1.5."""
    problem = by_hand()
    assert pv.score("force", problem)["weight"].tolist() == [[0.0, 0.0], [1.5, 0.75]]
    below = {"weight": torch.tensor([[False, False], [True, True]])}
    assert pv.score("force", problem, masks=below)["weight"].tolist() == [[6.0, 3.0], [1.5, 0.75]]
    assert pv.prune(problem, "force", 0.5, schedule="one_shot")["weight"].tolist() == below["weight"].tolist()
    twice = pv.prune(problem, "force", 0.75, schedule="linear:2")  # keeps 2, then 1
    assert twice["weight"].tolist() == [[True, False], [False, False]]
    stays = pv.prune(problem, "snip", 0.75, schedule="linear:2")  # iterative SNIP: what is removed stays removed
    assert stays["weight"].tolist() == [[False, False], [True, False]]


def test_without_a_schedule_it_takes_the_papers_sixty_steps(monkeypatch):
    calls, gradient = [], pv.Problem.gradient
    monkeypatch.setattr(pv.Problem, "gradient", lambda self, w, **options: calls.append(1) or gradient(self, w))
    pv.prune(networks.problem("mlp_relu"), "force", 0.6)
    assert len(calls) == 60
    assert pv.scorers()["force"].revives


def test_a_mask_that_does_not_fit_is_one_line():
    with pytest.raises(InputError, match="the mask of 'weight' has shape"):
        pv.score("force", by_hand(), masks={"weight": torch.ones(3, 2, dtype=torch.bool)})
