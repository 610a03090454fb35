"""GraSP by hand, by a dense Hessian and by finite differences; and its published variants, each by its own twin.

Closed forms need no autograd: their numbers are worked out in the comments. The mean of a batch and the sum
over batches are part of them.
"""

import networks
import published
import pytest
import reference
import torch
from measure import peak_bytes
from networks import close
from torch import nn

import pruneviz as pv
from pruneviz.errors import InputError

VARIANTS = ("paper", "official", "synflow", "frankle")
TWINS = {
    "paper": reference.grasp_dense,
    "official": reference.grasp_official,
    "synflow": reference.grasp_synflow,
    "frankle": reference.grasp_frankle,
}
DIFFERENTIABLE = ("bias_free", "depthwise", "conv_transpose", "tied", "transformer")


def half_squares(output, y):
    """1/2 ||f - y||^2, mean over the batch."""
    return 0.5 * (output - y).square().sum(1).mean()


def linear_problem(batches=None):
    """f(x) = W x with two inputs (1, 0) and (0, 2), whose second moment is C = diag(1/2, 2)."""
    model = nn.Linear(2, 2, bias=False, dtype=torch.float64)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[2.0, -1.0], [0.0, 3.0]]))
    x = torch.tensor([[1.0, 0.0], [0.0, 2.0]], dtype=torch.float64)
    y = torch.tensor([[0.0, 1.0], [-6.0, 0.0]], dtype=torch.float64)
    return pv.Problem(model, batches or [(x, y)], loss=half_squares)


class Product(nn.Module):
    """f(x) = sum_k b_k a_k x: a linear network with two layers and two hidden units."""

    def __init__(self, a, b):
        super().__init__()
        self.a, self.b = nn.Linear(1, 2, bias=False), nn.Linear(2, 1, bias=False)
        self.double()
        with torch.no_grad():
            self.a.weight.copy_(torch.tensor(a).view(2, 1))
            self.b.weight.copy_(torch.tensor(b).view(1, 2))

    def forward(self, x):
        return self.b(self.a(x))


def product_problem():
    """A = (1, 2), b = (3, -1), x = 1, y = 0: f = 1, so the residual is r = 1."""
    one = torch.ones(1, 1, dtype=torch.float64)
    return pv.Problem(Product([1.0, 2.0], [3.0, -1.0]), [(one, 0 * one)], loss=half_squares)


def exactly(scores, expected):
    assert list(scores) == list(expected)
    for name, s in scores.items():
        torch.testing.assert_close(s, torch.tensor(expected[name], dtype=torch.float64), rtol=1e-14, atol=1e-14)


# Closed forms --------------------------------------------------------------------------------------------


def test_linear_model_by_hand():
    # g = W C - D with D = mean of y x^T = [[0, -6], [1/2, 0]]:  W C = [[1, -2], [0, 6]],  g = [[1, 4], [-1/2, 6]]
    problem = linear_problem()
    loss, g = problem.gradient(problem.weights)
    assert loss == pytest.approx(14.25, rel=1e-15)  # (|(2, -1)|^2 + |(4, 6)|^2) / 4
    exactly(g, {"weight": [[1.0, 4.0], [-0.5, 6.0]]})
    exactly(pv.score("snip", problem), {"weight": [[2.0, 4.0], [0.0, 18.0]]})
    # The Hessian of each row of W is C, so H g = g C = [[1/2, 8], [-1/4, 12]]
    exactly(pv.score("grasp", problem, temperature=1.0), {"weight": [[1.0, -8.0], [0.0, 36.0]]})


def test_golden_masks_of_the_linear_model():
    problem = linear_problem()
    no, yes = False, True
    for scorer, sparsity, expected in [
        ("snip", 0.25, [[yes, yes], [no, yes]]),
        ("snip", 0.5, [[no, yes], [no, yes]]),
        ("snip", 0.75, [[no, no], [no, yes]]),
        ("grasp", 0.25, [[yes, no], [yes, yes]]),  # the weight whose removal would raise the gradient norm goes first
        ("grasp", 0.5, [[yes, no], [no, yes]]),
        ("grasp", 0.75, [[no, no], [no, yes]]),
        ("magnitude", 0.5, [[yes, no], [no, yes]]),
    ]:
        options = {"temperature": 1.0} if scorer == "grasp" else {}
        masks = pv.prune(problem, scorer, sparsity, **options)
        assert masks["weight"].tolist() == expected, (scorer, sparsity)


@pytest.mark.parametrize("temperature", [2.0, 200.0])
def test_linear_model_at_a_temperature_by_hand(temperature):
    # L = 1/2 mean |W x / T - y|^2: g = W C / T^2 - D / T and H = C / T^2
    t = temperature
    g = [[1 / t**2, -2 / t**2 + 6 / t], [-0.5 / t, 6 / t**2]]
    expected = [[2 * g[0][0] * 0.5 / t**2, -1 * g[0][1] * 2 / t**2], [0.0, 3 * g[1][1] * 2 / t**2]]
    exactly(pv.score("grasp", linear_problem(), temperature=t), {"weight": expected})


def test_batches_of_the_linear_model_are_summed_by_hand():
    # One example per batch, not halved by a mean: twice the loss, twice g and H.
    (x, y) = linear_problem().batches[0]
    problem = linear_problem([(x[:1], y[:1]), (x[1:], y[1:])])
    assert problem.gradient(problem.weights)[0] == pytest.approx(28.5, rel=1e-15)
    exactly(pv.score("snip", problem), {"weight": [[4.0, 8.0], [0.0, 36.0]]})
    exactly(pv.score("grasp", problem, temperature=1.0), {"weight": [[4.0, -32.0], [0.0, 144.0]]})
    # frankle: each batch's own Hessian and gradient. x = (1, 0): g = [[2, 0], [-1, 0]], H = diag(1, 0);
    # x = (0, 2): g = [[0, 8], [0, 12]], H = diag(0, 4). The products do not mix here: the same sum.
    exactly(pv.score("grasp", problem, temperature=1.0, variant="frankle"), {"weight": [[4.0, -32.0], [0.0, 144.0]]})
    # synflow: g of the first batch, H of the second: they do not share a coordinate.
    exactly(pv.score("grasp", problem, temperature=1.0, variant="synflow"), {"weight": [[0.0, 0.0], [0.0, 0.0]]})


def test_two_layer_linear_network_by_hand():
    problem = product_problem()
    # g_a = r b = (3, -1), g_b = r a = (1, 2)
    _, g = problem.gradient(problem.weights)
    exactly(g, {"a.weight": [[3.0], [-1.0]], "b.weight": [[1.0, 2.0]]})
    exactly(pv.score("snip", problem), {"a.weight": [[3.0], [2.0]], "b.weight": [[3.0, 2.0]]})
    # H_aa = b b^T, H_bb = a a^T, H_ab = r I + b a^T. With b.g_a = 10 and a.g_b = 5:
    # (H g)_a = 10 b + r g_b + 5 b = (46, -13);  (H g)_b = r g_a + 10 a + 5 a = (18, 29)
    scores = pv.score("grasp", problem, temperature=1.0)
    exactly(scores, {"a.weight": [[46.0], [-26.0]], "b.weight": [[54.0, -29.0]]})
    masks = pv.allocate(scores, 0.25)
    assert masks["a.weight"].tolist() == [[True], [True]]
    assert masks["b.weight"].tolist() == [[True, False]]
    # SNIP ties between the layers: the first of equal scores is kept.
    masks = pv.prune(problem, "snip", 0.75)
    assert masks["a.weight"].tolist() == [[True], [False]]
    assert masks["b.weight"].tolist() == [[False, False]]


def test_two_layer_linear_network_with_a_weight_removed_by_hand():
    problem = product_problem()
    masks = {"b.weight": torch.tensor([[True, False]])}
    # b = (3, 0): f = 3 = r;  g_a = (9, 0);  g_b = (3, 6), of which the removed weight follows nothing: (3, 0)
    # With b.v_a = 27 and a.v_b = 3: (H v)_a = 27 b + 3 v_b + 3 b = (99, 0);  (H v)_b = 3 v_a + 27 a + 3 a = (57, 60)
    expected = {"a.weight": [[99.0], [0.0]], "b.weight": [[171.0, 0.0]]}
    exactly(pv.score("grasp", problem, masks=masks, temperature=1.0), expected)
    exactly(pv.score("snip", problem, masks=masks), {"a.weight": [[9.0], [0.0]], "b.weight": [[9.0, 0.0]]})


# Against twins -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("masked", [False, True], ids=["dense", "masked"])
@pytest.mark.parametrize("name", networks.IDS)
def test_grasp_against_a_dense_hessian(name, masked):
    problem = networks.problem(name)
    masks = networks.random_masks(problem) if masked else None
    scores = pv.score("grasp", problem, masks=masks, temperature=2.0)
    close(scores, reference.grasp_dense(problem, masks, temperature=2.0))


@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_grasp_is_what_the_gradient_norm_does_when_one_weight_is_scaled(name):
    problem = networks.problem(name)
    scores = pv.score("grasp", problem, temperature=1.0)
    close(scores, reference.grasp_by_differences(problem, temperature=1.0), rtol=1e-6)


@pytest.mark.parametrize("masked", [False, True], ids=["dense", "masked"])
@pytest.mark.parametrize("name", ["conv_bn", "tied"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_each_variant_of_grasp_against_its_own_twin(variant, name, masked):
    problem = networks.problem(name, sizes=(5, 4, 3))
    masks = networks.random_masks(problem) if masked else None
    scores = pv.score("grasp", problem, masks=masks, variant=variant)
    close(scores, TWINS[variant](problem, masks))


def test_the_variants_of_grasp_differ_from_each_other():
    problem = networks.problem("conv_bn", sizes=(7, 4, 5))
    scores = {variant: reference.flat(pv.score("grasp", problem, variant=variant)) for variant in VARIANTS}
    for one in VARIANTS:
        for other in VARIANTS:
            if one < other:
                assert not torch.allclose(scores[one], scores[other], rtol=0.01, atol=0), (one, other)


@pytest.mark.parametrize("sizes", [(5,), (5, 4)], ids=["one_batch", "two_batches"])
def test_grasp_of_one_batch_and_of_several_take_different_paths_to_the_same_twin(sizes):
    problem = networks.problem("residual", sizes=sizes)
    close(pv.score("grasp", problem), reference.grasp_dense(problem))


def test_the_default_temperature_is_that_of_the_authors_code():
    problem = networks.problem("bias_free")
    default = pv.score("grasp", problem)
    assert all(torch.equal(default[n], s) for n, s in pv.score("grasp", problem, temperature=200.0).items())
    assert not torch.equal(default["0.weight"], pv.score("grasp", problem, temperature=1.0)["0.weight"])


def test_the_twins_hessian_is_that_of_torch():
    network = reference.Network(networks.problem("bias_free"))
    vector = reference.flat(network.dense)
    torchs = torch.autograd.functional.hessian(lambda v: network.loss(reference.unflat(v, network.dense)), vector)
    torch.testing.assert_close(network.hessian(vector), torchs, rtol=1e-10, atol=1e-14)


def test_official_grasp_scores_other_linear_weights_than_the_models():
    problem, scaled = networks.problem("conv_bn"), networks.problem("conv_bn")
    with torch.no_grad():
        scaled.model[8].weight.mul_(3.0)
    official = [pv.score("grasp", p, variant="official") for p in (problem, scaled)]
    assert all(torch.equal(official[0][n], official[1][n]) for n in official[0])
    paper = [pv.score("grasp", p, variant="paper") for p in (problem, scaled)]
    assert not torch.equal(paper[0]["8.weight"], paper[1]["8.weight"])
    other_seed = pv.score("grasp", problem, variant="official", seed=1)
    assert not torch.equal(official[0]["8.weight"], other_seed["8.weight"])


# A weight is really removed ----------------------------------------------------------------------------------

#: Spearman's rank correlation, at least: of all weights, and of the smaller half, for which first order is meant.
RANKS = {"conv_bn": (0.7, 0.7), "tied": (0.55, 0.8), "mlp_relu": (0.5, 0.75)}


def ranks(values):
    return values.argsort().argsort().double()


def correlation(a, b):
    return float(torch.corrcoef(torch.stack([ranks(a), ranks(b)]))[0, 1])


@pytest.mark.parametrize("name", networks.IDS)
def test_grasp_ranks_weights_by_what_the_gradient_norm_loses_without_them(name):
    """Half of ||g||^2 before, minus after one weight is set to zero; the score is the first order of this."""
    problem = networks.problem(name)
    network = reference.Network(problem)
    dense = reference.flat(network.dense)

    def half_norm(vector):
        return 0.5 * float(network.gradient(vector, None, 1.0).square().sum())

    before = half_norm(dense)
    lost = torch.tensor([before - half_norm(dense.index_fill(0, torch.tensor(j), 0.0)) for j in range(len(dense))])
    score = reference.flat(pv.score("grasp", problem, temperature=1.0))
    small = dense.abs() <= dense.abs().median()
    of_all, of_small = RANKS.get(name, (0.75, 0.9))
    assert correlation(score, lost) >= of_all
    assert correlation(score[small], lost[small]) >= of_small


@pytest.mark.parametrize("name", networks.SCALE_INVARIANT)
def test_the_scores_of_a_layer_before_batch_normalization_add_up_to_its_gradient_norm_however_it_is_cut(name):
    """<w, H G> = -||G_l||^2 with sums over batches or micro-batches alike, and to its error by differences."""
    whole = networks.problem(name, sizes=(6, 6))
    for micro_batch in (None, 3):
        problem = pv.Problem(whole.model, whole.batches, micro_batch=micro_batch)
        _, g = problem.gradient(problem.weights, temperature=3.0)
        for mode, rel in (("exact", 1e-8), ("difference", 1e-4)):
            scores = pv.score("grasp", problem, temperature=3.0, mode=mode)
            for layer in networks.CASES[name].scale_invariant:
                assert float(scores[layer].sum()) == pytest.approx(-float(g[layer].square().sum()), rel=rel)


# Options ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("variant", VARIANTS)
def test_absolute_is_the_size_of_the_final_score(variant):
    problem = networks.problem("conv_bn", sizes=(5, 4, 3))
    signed = pv.score("grasp", problem, variant=variant)
    absolute = pv.score("grasp", problem, variant=variant, absolute=True)
    assert all(torch.equal(absolute[n], s.abs()) for n, s in signed.items())
    assert any(bool((s < 0).any()) for s in signed.values())


def test_absolute_masks_of_the_linear_model_by_hand():
    # scores [[1, -8], [0, 36]]
    masks = pv.prune(linear_problem(), "grasp", 0.5, temperature=1.0, absolute=True)
    assert masks["weight"].tolist() == [[False, True], [False, True]]


@pytest.mark.parametrize("masked", [False, True], ids=["dense", "masked"])
@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("name", ["conv_bn", "mlp_relu", "tied"])
def test_each_variant_by_differences_is_its_own_twin(name, variant, masked):
    problem = networks.problem(name, sizes=(5, 4, 3))
    masks = networks.random_masks(problem) if masked else None
    scores = pv.score("grasp", problem, masks=masks, variant=variant, mode="difference")
    close(scores, TWINS[variant](problem, masks), rtol=1e-5)


@pytest.mark.parametrize("mode", ["exact", "difference"])
@pytest.mark.parametrize("variant", ["paper", "synflow", "frankle"])
@pytest.mark.parametrize("micro_batch", [1, 2, 4])
@pytest.mark.parametrize("name", ["conv_bn", "mlp_relu", "attention"])
def test_without_batch_statistics_micro_batches_give_the_score_of_whole_ones(name, micro_batch, variant, mode):
    whole = networks.problem(name, sizes=(5, 7), batchnorm="eval")
    parts = pv.Problem(whole.model, whole.batches, batchnorm="eval", micro_batch=micro_batch)
    scores = pv.score("grasp", parts, variant=variant, mode=mode)
    close(scores, pv.score("grasp", whole, variant=variant), rtol=1e-10 if mode == "exact" else 1e-5)


def test_differences_need_less_memory_than_the_exact_score_and_little_more_than_a_gradient():
    generator = torch.Generator().manual_seed(0)
    batch = torch.randn(20, 3, 32, 32, generator=generator), torch.arange(20) % 10
    problem = pv.Problem(pv.models.create("resnet20"), [batch])
    gradient = peak_bytes(lambda: problem.gradient(problem.weights))
    exact = peak_bytes(lambda: pv.score("grasp", problem))
    difference = peak_bytes(lambda: pv.score("grasp", problem, mode="difference"))
    assert difference < 1.6 * gradient
    assert difference < 0.8 * exact


def test_with_batch_statistics_micro_batches_are_another_loss():
    whole = networks.problem("conv_bn", sizes=(6,))
    parts = pv.Problem(whole.model, whole.batches, micro_batch=3)
    ours, theirs = pv.score("grasp", parts), pv.score("grasp", whole)
    assert not torch.allclose(ours["0.weight"], theirs["0.weight"], rtol=0.01, atol=0)
    (x, y) = whole.batches[0]
    halves = pv.Problem(whole.model, [(x[:3], y[:3]), (x[3:], y[3:])])  # each counts fully here, and half there
    close(ours, {n: s / 4 for n, s in pv.score("grasp", halves).items()}, rtol=1e-10)


def test_the_plain_recipe_of_the_benchmark_has_the_same_scores():
    for name in ("conv_bn", "residual"):
        problem = networks.problem(name, sizes=(6, 4))
        close(pv.score("grasp", problem), published.grasp(problem.model, problem.batches), rtol=1e-10)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"mode": "differences"}, "mode of grasp 'differences' is not known; did you mean 'difference'"),
        ({"absolute": 1}, "absolute of grasp 1 is not accepted: give true or false"),
    ],
)
def test_a_bad_option_is_one_line(options, says):
    with pytest.raises(InputError, match=says):
        pv.score("grasp", networks.problem("bias_free"), **options)
