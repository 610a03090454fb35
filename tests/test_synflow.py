"""SynFlow against a linearized copy, differences, exact integers and logarithms, and by hand; deep networks too.

The identities need no twin: flow is conserved in networks without biases, and does not see signs or data.
"""

import copy
import itertools
import math
import warnings

import networks
import pytest
import reference
import reference_synflow as twin
import torch
import torch.nn.functional as F
from measure import peak_bytes
from networks import close
from torch import Tensor, nn

import pruneviz as pv
from pruneviz.errors import InputError

#: Networks of one input.
PLAIN = tuple(name for name in networks.IDS if name != "attention")
SMOOTH = ("bias_free", "conv_transpose", "depthwise", "tied", "residual")


def problem_of(model: nn.Module, *shape: int) -> pv.Problem:
    dtype = next(model.parameters()).dtype
    return pv.Problem(model, [(torch.zeros((2, *shape), dtype=dtype), torch.tensor([0, 1]))])


def drawn(model: nn.Module, seed: int = 0, scale: float = 1.0) -> nn.Module:
    """Gaussian weights of deviation scale * sqrt(2 / fan_in), biases a tenth of that."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in model.parameters():
            size = scale * (2 / p[0].numel()) ** 0.5 if p.dim() > 1 else 0.1 * scale
            p.copy_(size * torch.randn(p.shape, generator=generator))
    return model


def mlp(*widths: int, bias: bool = False) -> nn.Sequential:
    layers: list[nn.Module] = []
    for n_in, n_out in itertools.pairwise(widths):
        layers += [nn.Linear(n_in, n_out, bias=bias), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def convolutions(depth: int, width: int = 2, *, bias: bool = False) -> nn.Sequential:
    layers: list[nn.Module] = []
    for _ in range(depth):
        layers += [nn.Conv2d(width, width, 3, padding=1, bias=bias), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


class Counted(nn.Module):
    """Counts how often a network is run; the count is no buffer, so that nothing resets it."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.dtypes: list[torch.dtype] = []

    def forward(self, x: Tensor) -> Tensor:
        self.dtypes.append(x.dtype)
        return self.network(x)


# Against twins -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("masked", [False, True], ids=["dense", "masked"])
@pytest.mark.parametrize("name", PLAIN)
def test_it_is_the_derivative_of_the_linearized_copy(name, masked):
    problem = networks.problem(name)
    masks = networks.random_masks(problem) if masked else None
    close(pv.score("synflow", problem, masks=masks), twin.synflow(problem, masks))


@pytest.mark.parametrize("name", SMOOTH)
def test_it_is_what_the_flow_gains_when_one_weight_is_scaled(name):
    problem = networks.problem(name)
    close(pv.score("synflow", problem), twin.synflow_by_differences(problem), rtol=1e-7)


@pytest.mark.parametrize("name", PLAIN)
def test_float32_scores_are_those_of_float64_to_its_rounding(name):
    exact = networks.problem(name)
    single = pv.Problem(copy.deepcopy(exact.model).float(), [(x.float(), y) for x, y in exact.batches])
    scores = pv.score("synflow", single)
    assert all(s.dtype == torch.float32 for s in scores.values())
    close({n: s.double() for n, s in scores.items()}, pv.score("synflow", exact), rtol=1e-4)


@pytest.mark.parametrize("steps", [1, 4, 20])
@pytest.mark.parametrize("name", ["mlp_relu", "residual", "tied"])
def test_masks_are_those_of_a_plain_loop_over_the_steps(name, steps):
    problem, schedule = networks.problem(name), pv.Exponential(steps)
    masks = pv.prune(problem, "synflow", 0.5, schedule=schedule)
    loop = reference.prune_iteratively(problem, twin.synflow, schedule.sparsities(0.5))
    assert {n: m.tolist() for n, m in masks.items()} == {n: m.tolist() for n, m in loop.items()}


# By hand -------------------------------------------------------------------------------------------------


def by_hand() -> pv.Problem:
    """Two layers: |W1| 1 = (3, 3.5), R = 1 * 3 + 2 * 3.5 = 10."""
    model = mlp(2, 2, 1).double()
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[1.0, -2.0], [3.0, 0.5]]))
        model[2].weight.copy_(torch.tensor([[-1.0, 2.0]]))
    return problem_of(model, 2)


def test_golden_scores_and_masks():
    problem = by_hand()
    scores = pv.score("synflow", problem)
    assert scores["0.weight"].tolist() == [[1.0, 2.0], [6.0, 1.0]]
    assert scores["2.weight"].tolist() == [[3.0, 7.0]]
    once = pv.prune(problem, "synflow", 0.5, schedule="one_shot")
    assert once["0.weight"].tolist() == [[False, False], [True, False]]
    assert once["2.weight"].tolist() == [[True, True]]
    # In two steps 4 are kept, then 3. After the first the scores are [[0, 2], [6, 0]] and [[2, 6]].
    twice = pv.prune(problem, "synflow", 0.5, schedule="exponential:2")
    assert twice["0.weight"].tolist() == [[False, True], [True, False]]
    assert twice["2.weight"].tolist() == [[False, True]]


def test_without_a_schedule_it_takes_the_papers_hundred_steps():
    model = Counted(mlp(3, 4, 2))
    pv.prune(problem_of(drawn(model), 3), "synflow", 0.5)
    assert len(model.dtypes) == 100


# Identities ----------------------------------------------------------------------------------------------

CHAINS = {
    "mlp": (mlp(5, 7, 6, 3), (5,)),
    "convolutions": (nn.Sequential(convolutions(3, 4), nn.MaxPool2d(2), nn.Conv2d(4, 6, 2, bias=False)), (4, 6, 6)),
    "grouped": (nn.Sequential(nn.Conv2d(4, 6, 3, groups=2, bias=False), nn.Conv2d(6, 4, 1, bias=False)), (4, 5, 5)),
    "transposed": (nn.Sequential(nn.ConvTranspose2d(2, 3, 3, stride=2, bias=False), convolutions(2, 3)), (2, 3, 3)),
    "pooled": (
        nn.Sequential(convolutions(2, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 2, bias=False)),
        (3, 4, 4),
    ),
}


@pytest.mark.parametrize("masked", [False, True], ids=["dense", "masked"])
@pytest.mark.parametrize("name", list(CHAINS))
def test_all_layers_without_biases_carry_the_same_flow(name, masked):
    network, shape = CHAINS[name]
    problem = problem_of(drawn(copy.deepcopy(network)).double(), *shape)
    masks = networks.random_masks(problem, density=0.8) if masked else None
    sums = [float(s.sum()) for s in pv.score("synflow", problem, masks=masks).values()]
    assert min(sums) > 0
    assert sums == pytest.approx([twin.total_flow(problem, masks)] * len(sums), rel=1e-12)


def test_every_hidden_unit_takes_in_what_it_gives_out():
    problem = problem_of(drawn(mlp(5, 7, 6, 3)).double(), 5)
    first, second, third = pv.score("synflow", problem).values()
    torch.testing.assert_close(first.sum(1), second.sum(0), rtol=1e-12, atol=0)
    torch.testing.assert_close(second.sum(1), third.sum(0), rtol=1e-12, atol=0)


def test_in_a_residual_network_units_conserve_flow_and_layers_share_it():
    """What enters the sum leaves the branch and the shortcut together: the cut through both carries it all."""

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.branch, self.head = (nn.Linear(4, 4, bias=False) for _ in range(3))

        def forward(self, x: Tensor) -> Tensor:
            x = self.stem(x)
            return self.head(x + F.relu(self.branch(x)))

    problem = problem_of(drawn(Block()).double(), 4)
    sums = {name: float(s.sum()) for name, s in pv.score("synflow", problem).items()}
    assert sums["stem.weight"] == pytest.approx(sums["head.weight"], rel=1e-12)
    assert sums["branch.weight"] < 0.99 * sums["stem.weight"]


def test_biases_add_flow_on_the_way():
    problem = problem_of(drawn(mlp(5, 7, 6, 3, bias=True)).double(), 5)
    sums = [float(s.sum()) for s in pv.score("synflow", problem).values()]
    assert sums[0] < sums[1] < sums[2]


@pytest.mark.parametrize("name", ["mlp_relu", "residual", "grouped"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
def test_signs_of_weights_change_nothing_bit_for_bit(name, dtype):
    plain, flipped = networks.problem(name, dtype=dtype), networks.problem(name, dtype=dtype)
    with torch.no_grad():
        for i, parameter in enumerate(flipped.model.parameters()):
            parameter[i % 2 :: 2] *= -1
    for name, s in pv.score("synflow", flipped).items():
        assert torch.equal(s, pv.score("synflow", plain)[name])


def test_a_hidden_units_scale_changes_nothing():
    plain, scaled = (problem_of(drawn(mlp(5, 7, 3)), 5) for _ in range(2))
    with torch.no_grad():
        scaled.model[0].weight[2] *= 8.0
        scaled.model[2].weight[:, 2] /= 8.0
    for name, s in pv.score("synflow", scaled).items():
        assert torch.equal(s, pv.score("synflow", plain)[name])


def test_permuted_hidden_units_have_permuted_scores():
    order = torch.tensor([4, 2, 0, 5, 1, 3])
    plain, permuted = networks.problem("mlp_relu"), networks.problem("mlp_relu")
    with torch.no_grad():
        permuted.model[0].weight.copy_(plain.model[0].weight[order])
        permuted.model[0].bias.copy_(plain.model[0].bias[order])
        permuted.model[2].weight.copy_(plain.model[2].weight[:, order])
    expected = pv.score("synflow", plain)
    expected["0.weight"] = expected["0.weight"][order]
    expected["2.weight"] = expected["2.weight"][:, order]
    close(pv.score("synflow", permuted), expected, rtol=1e-12)


def test_neither_data_nor_labels_nor_the_loss_nor_batch_statistics_matter():
    model = networks.model("conv_bn")
    scores = pv.score("synflow", pv.Problem(model, networks.batches("conv_bn"), batchnorm="train"))
    others = [
        pv.Problem(model, networks.batches("conv_bn", seed=9, sizes=(3,)), batchnorm="eval"),
        pv.Problem(model, [(x, None) for x, _ in networks.batches("conv_bn")], loss=lambda output, y: output / 0),
        pv.Problem(model, networks.batches("conv_bn"), micro_batch=1),
    ]
    for other in others:
        assert all(torch.equal(s, scores[n]) for n, s in pv.score("synflow", other).items())


# In steps the flow is never cut off ----------------------------------------------------------------------


def test_one_shot_collapses_a_layer_where_a_hundred_steps_do_not():
    """Layers share one flow, so the scores of the largest layer are the smallest, and it is cut off as a whole."""
    problem = problem_of(drawn(mlp(6, *[6] * 4, 40, 40, *[6] * 4, 3)), 6)
    total = sum(w.numel() for w in problem.weights.values())
    sparsity = 1 - 60 / total  # 60 weights in 11 layers
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        once = pv.prune(problem, "synflow", sparsity, schedule="one_shot")
    assert "10.weight" in pv.masks.collapsed(once)
    masks = pv.prune(problem, "synflow", sparsity)
    assert pv.masks.collapsed(masks) == []
    assert pv.masks.kept(masks) == 60
    assert twin.total_flow(problem, masks) > 0
    assert twin.total_flow(problem, once) == 0


# Deep networks -------------------------------------------------------------------------------------------


def naive(problem: pv.Problem) -> list[Tensor]:
    """The score in float32 as it is written."""
    return list(twin.synflow(problem).values())


def broken(scores: list[Tensor]) -> bool:
    """Not finite, or zero throughout a layer."""
    return any(not bool(s.isfinite().all()) or not bool(s.any()) for s in scores)


def agree(scores: pv.Scores, logarithms: dict[str, Tensor]) -> None:
    """Scores whose base-2 logarithms are those expected, but for one common whole number."""
    shifts = torch.cat([(s.double().log2() - logarithms[n]).flatten() for n, s in scores.items()])
    assert bool(shifts.isfinite().all())
    common = round(float(shifts.median()))
    assert float((shifts - common).abs().max()) < 1e-5


def exact_convolutions(problem: pv.Problem, side: int) -> dict[str, Tensor]:
    """Base-2 logarithms, but for one common number, of the exact scores of a chain of 3 x 3 convolutions."""
    state = {name: p.detach() for name, p in problem.model.named_parameters()}
    matrices = [twin.conv_matrix(w, side) for w in problem.weights.values()]
    biases = [[0] * len(matrix) for matrix, _ in matrices]
    if len(state) > len(matrices):
        per_channel = [twin.whole(state[name.replace("weight", "bias")]) for name in problem.names]
        biases = [[b for b in channels for _ in range(side**2)] for channels in per_channel]
    exact = twin.exact_chain([matrix for matrix, _ in matrices], biases)
    logarithms = {}
    for (name, w), scores, (_, which) in zip(problem.weights.items(), exact, matrices, strict=True):
        sums: dict[tuple[int, ...], int] = {}
        for row, indices in zip(scores, which, strict=True):
            for value, index in zip(row, indices, strict=True):
                if index is not None:
                    sums[index] = sums.get(index, 0) + value
        logarithms[name] = torch.zeros(w.shape, dtype=torch.float64)
        for index, value in sums.items():
            logarithms[name][index] = twin.log2(value)
    return logarithms


@pytest.mark.parametrize(
    ("depth", "scale", "bias", "way"),
    [
        (100, 4.0, False, "float64"),
        (100, 4.0, True, "float64"),
        (100, 0.1, False, "float64"),
        (70, 0.1, True, "another input"),  # only the first layers underflow: later ones carry the flow of their biases
        (60, 4.0, False, "another input"),
        (60, 4.0, True, "another input"),
        (150, 60.0, False, "powers of two"),
        (150, 60.0, True, "powers of two"),
        (150, 0.003, False, "powers of two"),  # with biases scores of one network differ by more than float64 can tell
        (300, 20.0, False, "powers of two"),
    ],
)
def test_deep_convolutions_in_float32_against_exact_integers(depth, scale, bias, way):
    network = Counted(drawn(convolutions(depth, bias=bias), scale=scale))
    problem = problem_of(network, 2, 2, 2)
    scores = pv.score("synflow", problem)
    assert network.dtypes[0] == torch.float32
    assert min(network.dtypes.count(torch.float64), 2) == ["another input", "float64", "powers of two"].index(way)
    assert broken(naive(problem))
    agree(scores, exact_convolutions(problem, 2))


@pytest.mark.parametrize("scale", [2.0, 0.005])
def test_wide_layers_in_float32_against_logarithms(scale):
    model = drawn(mlp(300, *[300] * 59, 10), scale=scale)
    problem = problem_of(model, 300)
    assert broken(naive(problem))
    expected = twin.log_scores(list(problem.weights.values()))
    agree(pv.score("synflow", problem), dict(zip(problem.names, [e / math.log(2) for e in expected], strict=True)))


def test_the_masks_of_a_deep_network_are_those_of_its_exact_scores():
    problem = problem_of(drawn(mlp(*[6] * 501), scale=4.0), 6)
    exact = dict(zip(problem.names, twin.log_scores(list(problem.weights.values())), strict=True))
    for sparsity in (0.3, 0.6):
        masks, wanted = pv.prune(problem, "synflow", sparsity, schedule="one_shot"), pv.allocate(exact, sparsity)
        assert sum(int((masks[n] != wanted[n]).sum()) for n in masks) == 0


def test_pruning_a_deep_network_in_steps_keeps_the_flow():
    problem = problem_of(drawn(mlp(*[4] * 101), scale=1e4), 4)
    masks = pv.prune(problem, "synflow", 0.7, schedule="exponential:10")
    assert pv.masks.collapsed(masks) == []
    scores = twin.log_scores([w.masked_fill(~masks[n], 0) for n, w in problem.weights.items()])
    assert bool((scores[-1] > -math.inf).any())


def test_a_deep_model_stays_as_it_is_and_gets_scores_of_its_own_dtype():
    problem = problem_of(drawn(convolutions(500), scale=20.0), 2, 2, 2)
    before = {n: t.clone() for n, t in problem.model.state_dict().items()}
    state = torch.get_rng_state()
    scores = pv.score("synflow", problem)
    assert all(s.dtype == torch.float32 and bool(s.isfinite().all()) for s in scores.values())
    assert all(torch.equal(t, before[n]) for n, t in problem.model.state_dict().items())
    assert all(p.grad is None and p.dtype == torch.float32 for p in problem.model.parameters())
    assert torch.equal(torch.get_rng_state(), state)


def test_batch_normalization_in_a_deep_chain_changes_nothing_where_it_is_the_identity():
    """Variance 4 and scale 2, epsilon 0; and a shift is a bias, which is scaled like one."""
    bias, plain = 0.5, drawn(convolutions(90, bias=True), scale=8000.0)
    layers: list[nn.Module] = []
    with torch.no_grad():
        for layer in plain:
            if isinstance(layer, nn.Conv2d):
                layer.bias.fill_(bias)
                normalization = nn.BatchNorm2d(2, eps=0.0)
                normalization.running_var.fill_(4.0)
                normalization.weight.fill_(2.0)
                normalization.bias.fill_(bias)
                layers += [nn.Conv2d(2, 2, 3, padding=1, bias=False), normalization, nn.ReLU()]
                layers[-3].weight.copy_(layer.weight)
    network = Counted(nn.Sequential(*layers[:-1]))
    scores = pv.score("synflow", problem_of(network, 2, 2, 2))
    assert len(network.dtypes) > 2
    exact = exact_convolutions(problem_of(plain, 2, 2, 2), 2)
    agree(scores, dict(zip(scores, exact.values(), strict=True)))
    with torch.no_grad():
        for layer in layers[1::3]:
            layer.running_mean.fill_(1e-3)  # far below all signals, but not below those with powers of two taken out
    agree(pv.score("synflow", problem_of(network, 2, 2, 2)), dict(zip(scores, exact.values(), strict=True)))


def test_a_deep_float64_model_needs_powers_of_two_only():
    network = Counted(drawn(convolutions(120), scale=200.0).double())
    problem = problem_of(network, 2, 2, 2)
    agree(pv.score("synflow", problem), exact_convolutions(problem, 2))
    assert set(network.dtypes) == {torch.float64}


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("scale", [1.0, 4.0, 60.0], ids=["float32", "float64", "powers of two"])
def test_a_gpu_gives_the_same_scores(scale):
    model = drawn(convolutions(20 if scale == 1.0 else 150, bias=True), scale=scale)
    expected = pv.score("synflow", problem_of(model, 2, 2, 2))
    x, y = torch.zeros(2, 2, 2, 2, device="cuda"), torch.tensor([0, 1], device="cuda")
    scores = pv.score("synflow", pv.Problem(copy.deepcopy(model).cuda(), [(x, y)]))
    assert all(s.is_cuda for s in scores.values())
    agree({n: s.cpu() for n, s in scores.items()}, {n: s.double().log2() for n, s in expected.items()})


def test_a_gate_that_the_flow_saturates_scores_zero():
    """A hard sigmoid is flat beyond 3, where the flow through absolute weights is."""

    class Gated(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gate, self.head = nn.Linear(4, 4), nn.Linear(4, 2)
            nn.init.constant_(self.gate.weight, -1.0)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(x * F.hardsigmoid(self.gate(x)))

    scores = pv.score("synflow", problem_of(Gated(), 4))
    assert not bool(scores["gate.weight"].any())
    assert bool(scores["head.weight"].all())


class Blocks(nn.Module):
    """Residual blocks with batch normalization, whose scale may start at zero as in many libraries."""

    def __init__(self, depth: int, scale: float = 1.0) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            nn.Sequential(nn.Conv2d(4, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4), nn.ReLU()) for _ in range(depth)
        )
        drawn(self)
        with torch.no_grad():
            for branch in self.branches:
                branch[1].weight.fill_(scale)
                branch[1].bias.zero_()

    def forward(self, x: Tensor) -> Tensor:
        for branch in self.branches:
            x = x + branch(x)
        return x.mean((2, 3))


def test_a_deep_residual_network_is_scored_in_float64():
    problem = problem_of(Counted(Blocks(100)), 4, 4, 4)
    double = problem_of(copy.deepcopy(problem.model).double(), 4, 4, 4)
    assert broken(naive(problem))
    scores, exact = pv.score("synflow", problem), twin.synflow(double)
    agree(scores, {n: s.log2() for n, s in exact.items()})
    assert set(problem.model.dtypes) == {torch.float32, torch.float64}


def test_a_residual_network_beyond_float64_is_refused_in_one_line():
    with pytest.raises(InputError, match=r"the synaptic flow of this model is inf in float64, and it is no"):
        pv.score("synflow", problem_of(Blocks(200, scale=1e3), 4, 2, 2))


def test_zeros_that_are_true_cost_no_second_pass():
    """With scales of zero no flow passes the branches; with a cut no flow passes at all beyond it."""
    problem = problem_of(Counted(Blocks(3, scale=0.0)), 4, 4, 4)
    model = nn.Sequential(problem.model, nn.Linear(4, 3))
    scores = pv.score("synflow", problem_of(drawn(model[1]) and model, 4, 4, 4))
    assert not any(bool(s.any()) for name, s in scores.items() if "branches" in name)
    assert bool(scores["1.weight"].any())
    assert problem.model.dtypes == [torch.float32]
    network = Counted(drawn(mlp(5, 7, 6, 3)))
    chain = problem_of(network, 5)
    masks = {n: torch.ones_like(w, dtype=torch.bool) for n, w in chain.weights.items()}
    masks["network.2.weight"][:, 3] = False  # unit 3 of the first layer leads nowhere
    scores = pv.score("synflow", chain, masks=masks)
    assert not bool(scores["network.0.weight"][3].any())
    assert network.dtypes == [torch.float32]


def test_an_ordinary_network_is_run_once_in_its_own_precision():
    for dtype in (torch.float32, torch.float64):
        network = Counted(pv.models.create("resnet20", seed=0).to(dtype))
        pv.score("synflow", problem_of(network, 3, 8, 8))
        assert network.dtypes == [dtype]


def test_a_collapsed_network_scores_zero_everywhere():
    problem = problem_of(Counted(drawn(mlp(5, 7, 3))), 5)
    with pytest.warns(UserWarning, match="gives every weight the score 0"):
        scores = pv.score("synflow", problem, masks={"network.0.weight": torch.zeros(7, 5, dtype=torch.bool)})
    assert not any(bool(s.any()) for s in scores.values())
    assert problem.model.dtypes == [torch.float32, torch.float32, torch.float64]


def test_no_more_than_one_layers_gradient_is_held_at_a_time():
    model = drawn(mlp(*[256] * 13))
    problem = problem_of(model, 256)
    weights = sum(w.numel() * w.element_size() for w in problem.weights.values())
    assert peak_bytes(lambda: pv.score("synflow", problem)) < 1.5 * weights  # a copy of 12 layers and one gradient


# Inputs --------------------------------------------------------------------------------------------------


class Two(nn.Module):
    """Takes two inputs by position or by name."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Linear(3, 2), nn.Linear(4, 2)

    def forward(self, a: Tensor, b: Tensor, flag: bool = True) -> Tensor:
        return self.left(a) + self.right(b)


def test_tuples_and_dictionaries_have_ones_for_every_tensor():
    model = drawn(Two()).double()
    a, b, y = torch.zeros(5, 3, dtype=torch.float64), torch.zeros(5, 4, dtype=torch.float64), torch.arange(5) % 2
    expected = {name: w.detach().abs() for name, w in model.named_parameters() if w.dim() > 1}
    for batch in ((a, b, y), {"a": a, "b": b, "y": y}):
        close(pv.score("synflow", pv.Problem(model, [batch], loss=lambda o, t: o.sum())), expected, rtol=1e-15)


class Tokens(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed, self.head = nn.Embedding(7, 4), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.embed(x).mean(1))


class Record(nn.Linear):
    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"logits": super().forward(x)}


class Stubborn(nn.Module):
    """Has a matrix of its own in float32, whatever it is fed, and a flow that float32 does not hold."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = drawn(convolutions(100), scale=4.0)

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x).flatten(1) @ torch.ones(8, 2)


@pytest.mark.parametrize(
    ("problem", "says"),
    [
        (
            lambda: pv.Problem(Tokens(), [(torch.zeros(2, 5, dtype=torch.int64), torch.tensor([0, 1]))]),
            r"'synflow' puts numbers of its own in the place of the data, and the input has dtype torch\.int64",
        ),
        (
            lambda: pv.Problem(Two(), [{"a": torch.ones(2, 3), "b": torch.ones(2, 4, dtype=torch.bool)}]),
            r"and the input\['b'\] has dtype torch\.bool; accepted are floating-point inputs",
        ),
        (lambda: problem_of(Record(3, 2), 3), "the model's output is a dict; synflow sums the entries of one tensor"),
        (lambda: problem_of(Stubborn(), 2, 2, 2), "synflow needs float64 for this model, which cannot run in it: "),
    ],
    ids=["tokens", "dictionary", "output", "float64"],
)
def test_what_has_no_flow_is_refused_in_one_line(problem, says):
    with pytest.raises(InputError, match=says) as caught:
        pv.score("synflow", problem())
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_weight_that_is_not_finite_is_named(value):
    problem = problem_of(drawn(mlp(5, 7, 3)), 5)
    with torch.no_grad():
        problem.model[2].weight[0, 0] = value
    with pytest.raises(InputError, match=r"'2\.weight' holds values that are not finite"):
        pv.score("synflow", problem)


def test_a_weight_that_the_output_does_not_depend_on_scores_zero_and_is_warned_of():
    class Unused(nn.Linear):
        def __init__(self) -> None:
            super().__init__(3, 2)
            self.spare = nn.Linear(3, 2)

    with pytest.warns(UserWarning, match=r"does not depend on spare\.weight"):
        scores = pv.score("synflow", problem_of(drawn(Unused()), 3))
    assert not bool(scores["spare.weight"].any())
    assert bool(scores["weight"].any())


@pytest.mark.parametrize(
    ("masks", "says"),
    [
        ({"0.weight": torch.ones(2, 2, dtype=torch.bool)}, r"the mask of '0\.weight' has shape \(2, 2\)"),
        ({"0.bias": torch.ones(7, dtype=torch.bool)}, r"the mask names '0\.bias', not a prunable weight"),
    ],
)
def test_a_mask_that_does_not_fit_is_one_line(masks, says):
    with pytest.raises(InputError, match=says):
        pv.score("synflow", problem_of(mlp(5, 7, 3, bias=True), 5), masks=masks)


def test_a_mask_of_attention_may_be_minus_infinity():
    class Causal(nn.Module):
        def __init__(self):
            super().__init__()
            self.attention, self.head = nn.MultiheadAttention(4, 2, batch_first=True), nn.Linear(4, 3)
            self.register_buffer("mask", torch.full((5, 5), -math.inf).triu(1))

        def forward(self, x):
            return self.head(self.attention(x, x, x, attn_mask=self.mask, need_weights=False)[0].mean(1))

    model = Causal().double()
    problem = pv.Problem(model, [(torch.randn(6, 5, 4, dtype=torch.float64), torch.arange(6) % 3)])
    found = networks.score("synflow", problem)
    positive = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in positive.parameters():
            parameter.abs_()
    positive(torch.ones(1, 5, 4, dtype=torch.float64)).sum().backward()
    for name, scores in found.items():
        parameter = positive.get_parameter(name)
        torch.testing.assert_close(scores, (parameter * parameter.grad).abs().detach())


def test_a_flow_that_is_not_a_number_is_one_line():
    class Unbounded(nn.Linear):
        def forward(self, x):
            return super().forward(x) + (1 - x).log() * 0

    problem = pv.Problem(Unbounded(3, 3), [(torch.rand(2, 3) / 2, torch.tensor([0, 1]))])
    with pytest.raises(InputError, match=r"^the synaptic flow of this model is nan: .* accepted is") as caught:
        networks.score("synflow", problem)
    assert "\n" not in str(caught.value)


def test_a_weight_without_entries_is_no_obstacle():
    class Empty(nn.Linear):
        def __init__(self):
            super().__init__(3, 3)
            self.none = nn.Linear(3, 0)

        def forward(self, x):
            return torch.cat([super().forward(x), self.none(x)], 1)

    found = networks.score("synflow", pv.Problem(Empty(), [(torch.rand(2, 3), torch.tensor([0, 1]))]))
    assert found["none.weight"].shape == (0, 3)
    assert bool((found["weight"] > 0).all())
