"""Whole channels: scores by explicit mask variables and by hand, and smaller networks against zeroed ones.

The groups of coupled layers are written down here by hand; the library finds them by tracing.
"""

import copy
import sys
import warnings

import networks
import pytest
import reference_prospr
import torch
import torch.nn.functional as F
import torchvision
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

import pruneviz as pv
from pruneviz.channels import channel_scores, prune_channels
from pruneviz.errors import InputError

PROSPR = {"lr": 0.1}
SIZES = (6, 4, 5, 7)

# The parameters that hold each channel, and along which dimension; the first is a weight.
WEIGHTS = {
    "bias_free": [[("0.weight", 0)]],
    "mlp_relu": [[("0.weight", 0)], [("2.weight", 0)]],
    "residual": [[("conv1.weight", 0)], [("conv2.weight", 0), ("shortcut.weight", 0)]],
    "conv_transpose": [[("0.weight", 1)]],
    "transformer": [[("mlp.0.weight", 0)]],
}
BESIDE = {
    "mlp_relu": [[("0.bias", 0)], [("2.bias", 0)]],
    "residual": [
        [("bn1.weight", 0), ("bn1.bias", 0)],
        [("bn2.weight", 0), ("bn2.bias", 0), ("bn3.weight", 0), ("bn3.bias", 0)],
    ],
    "conv_transpose": [[("0.bias", 0), ("1.weight", 0), ("1.bias", 0)]],
}


class Separable(nn.Module):
    """A depthwise convolution between two dense ones, and a shortcut around them."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(6)
        self.depthwise = nn.Conv2d(6, 6, 3, padding=1, groups=6, bias=False)
        self.norm2 = nn.BatchNorm2d(6)
        self.pointwise = nn.Conv2d(6, 6, 1)
        self.norm3 = nn.BatchNorm2d(6)
        self.wide = nn.Conv2d(6, 8, 1)
        self.fc = nn.Linear(8 * 16, 3)

    def forward(self, x):
        x = F.relu(self.norm1(self.stem(x)))
        x = x + self.norm3(self.pointwise(F.relu6(self.norm2(self.depthwise(x)))))
        return self.fc(F.max_pool2d(F.silu(self.wide(F.relu(x))), 2).flatten(1))


def vgg_like():
    layers = []
    for channels_in, channels_out in ((3, 6), (6, 8), (8, 10)):
        layers += [nn.Conv2d(channels_in, channels_out, 3, padding=1), nn.BatchNorm2d(channels_out), nn.ReLU()]
        layers += [nn.MaxPool2d(2)]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(40, 12), nn.ReLU(), nn.Linear(12, 3))


NETWORKS = {
    "mlp": lambda: pv.models.create("mlp", input_shape=(3, 8, 8), classes=3, width=0.1),
    "vgg_like": vgg_like,
    "separable": Separable,
    "resnet20": lambda: pv.models.create("resnet20", classes=3, width=0.5),
    "resnet18": lambda: torchvision.models.resnet18(num_classes=3),
    "mobilenet_v2": lambda: torchvision.models.mobilenet_v2(num_classes=3),
}
PIXELS = {"vgg_like": 16, "resnet18": 32, "mobilenet_v2": 32}


def network(name, dtype=torch.float64):
    """In train mode, with random scales, shifts and statistics in its normalization layers."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = NETWORKS[name]().to(dtype)
        for module in model.modules():
            if isinstance(module, _BatchNorm):
                for tensor in (module.weight.data, module.running_var):
                    tensor.uniform_(0.5, 1.5)
                for tensor in (module.bias.data, module.running_mean):
                    tensor.normal_(std=0.3)
        return model


def network_problem(name, batches=1, dtype=torch.float64, **options):
    generator = torch.Generator().manual_seed(1)
    size = PIXELS.get(name, 8)
    drawn = [
        (torch.randn(9, 3, size, size, generator=generator).to(dtype), torch.arange(9) % 3) for _ in range(batches)
    ]
    return pv.Problem(network(name, dtype), drawn, **options)


def with_channels_at_zero(model, kept):
    """A copy with the removed channels of each layer at zero, their biases, scales and shifts with them."""
    copied = copy.deepcopy(model)
    leaves = [(name, module) for name, module in copied.named_modules() if not list(module.children())]
    for (name, module), (_, following) in zip(leaves, [*leaves[1:], ("", None)], strict=True):
        if f"{name}.weight" in kept:
            gone = torch.ones(module.weight.shape[0], dtype=torch.bool)
            gone[kept[f"{name}.weight"]] = False
            for holder in (module, following) if isinstance(following, _BatchNorm) else (module,):
                for parameter in holder.parameters():
                    parameter.data[gone] = 0
    return copied


# Scores --------------------------------------------------------------------------------------------------


def check_groups(scores, expected, groups, rtol=1e-8):
    assert sorted(scores) == sorted(name for group in groups for name, _ in group)
    top = max(float(s.max()) for s in expected)
    for group, s in zip(groups, expected, strict=True):
        for name, _ in group:
            torch.testing.assert_close(scores[name], s, rtol=0, atol=rtol * top)


@pytest.mark.parametrize("name", list(WEIGHTS))
def test_a_channels_score_is_the_derivative_with_respect_to_its_own_mask_variable(name):
    problem, groups = networks.problem(name, sizes=SIZES), WEIGHTS[name]
    check_groups(channel_scores(problem, **PROSPR), reference_prospr.of_channels(problem, groups, **PROSPR), groups)
    problem = networks.problem(name, batchnorm="eval")
    check_groups(channel_scores(problem, "snip"), reference_prospr.of_channels(problem, groups, steps=0), groups)


@pytest.mark.parametrize("name", list(BESIDE))
def test_a_mask_variable_may_cover_all_that_goes_with_the_channel(name):
    problem, groups = networks.problem(name, sizes=SIZES), WEIGHTS[name]
    wider = [group + beside for group, beside in zip(groups, BESIDE[name], strict=True)]
    for scorer, options in (("prospr", PROSPR), ("snip", {})):
        steps = {"steps": 0} if scorer == "snip" else {}
        expected = reference_prospr.of_channels(problem, wider, **steps, **options)
        check_groups(channel_scores(problem, scorer, covers="channel", **options), expected, groups)


@pytest.mark.parametrize("name", ["bias_free", "residual"])
def test_a_channels_score_is_what_the_loss_after_training_does_when_its_mask_moves(name):
    problem, groups = networks.problem(name, sizes=SIZES), WEIGHTS[name]
    expected = reference_prospr.of_channels_by_differences(problem, groups, **PROSPR)
    check_groups(channel_scores(problem, **PROSPR), expected, groups, rtol=1e-6)


def test_frozen_parameters_count_as_well():
    problem = networks.problem("residual", sizes=SIZES)
    for name, parameter in problem.model.named_parameters():
        parameter.requires_grad_("bn2" not in name and "conv1" not in name)
    wider = [group + beside for group, beside in zip(WEIGHTS["residual"], BESIDE["residual"], strict=True)]
    start = reference_prospr.Training(problem).start
    assert "bn2.weight" not in start  # frozen and not prunable: the twin would take it for a constant
    problem.names = tuple(dict(problem.model.named_parameters()))
    expected = reference_prospr.of_channels(problem, wider, **PROSPR)
    problem.names = networks.CASES["residual"].prunable
    check_groups(channel_scores(problem, covers="channel", **PROSPR), expected, WEIGHTS["residual"])


def test_in_a_network_of_relus_snips_channel_score_is_activation_times_gradient():
    """Without biases sum_j w_j g_j = sum over examples of h dL/dh: no mask variables needed."""
    generator = torch.Generator().manual_seed(0)
    first, second = (torch.randn(shape, generator=generator).double() for shape in ((5, 4), (3, 5)))
    model = nn.Sequential(nn.Linear(4, 5, bias=False), nn.ReLU(), nn.Linear(5, 3, bias=False)).double()
    with torch.no_grad():
        model[0].weight.copy_(first)
        model[2].weight.copy_(second)
    x, y = torch.randn(6, 4, generator=generator).double(), torch.arange(6) % 3
    hidden = (x @ first.T).clamp(min=0).requires_grad_()
    (gradient,) = torch.autograd.grad(F.cross_entropy(hidden @ second.T, y), hidden)
    expected = (hidden * gradient).sum(0).abs().detach()
    scores = channel_scores(pv.Problem(model, [(x, y)]), "snip")
    torch.testing.assert_close(scores["0.weight"], expected, rtol=1e-12, atol=0)


def test_before_batch_normalization_snip_on_weights_is_blind_which_it_says_and_on_channels_it_is_not():
    problem = networks.problem("residual")
    with pytest.warns(UserWarning, match=r"in conv1.weight, conv2.weight are sums that cancel, .*covers='channel'"):
        blind = channel_scores(problem, "snip")
    seeing = channel_scores(problem, "snip", covers="channel")
    for name in blind:
        assert float(blind[name].max()) < 1e-8
        assert float(seeing[name].min()) > 1e-5
    after_training = channel_scores(networks.problem("residual", sizes=SIZES), **PROSPR)
    assert all(float(s.max()) > 1e-4 for s in after_training.values())  # the first step notices the scale


# By hand -------------------------------------------------------------------------------------------------


def test_a_network_of_two_hidden_units_by_hand():
    # As in test_grasp.py: A = (1, 2), b = (3, -1), x = 1, y = 0; SNIP of A is (3, 2), so the second unit goes.
    model = nn.Sequential(nn.Linear(1, 2, bias=False), nn.Linear(2, 1, bias=False)).double()
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[1.0], [2.0]]))
        model[1].weight.copy_(torch.tensor([[3.0, -1.0]]))
    one = torch.ones(1, 1, dtype=torch.float64)
    problem = pv.Problem(model, [(one, 0 * one)], loss=lambda f, y: 0.5 * (f - y).square().sum(1).mean())
    pruned = prune_channels(problem, 0.5, "snip")
    assert pruned.scores["0.weight"].tolist() == [3.0, 2.0]
    assert {name: k.tolist() for name, k in pruned.kept.items()} == {"0.weight": [0]}
    assert [p.tolist() for p in pruned.model.parameters()] == [[[1.0]], [[3.0]]]
    assert pruned.model(one).item() == 3.0
    assert (pruned.channels_before, pruned.channels_after) == (2, 1)
    assert (pruned.parameters_before, pruned.parameters_after) == (4, 2)
    assert (pruned.macs_before, pruned.macs_after) == (4, 2)
    assert pruned.whole == {"1.weight": "its channels are the network's output"}


def test_parameters_and_multiplications_of_a_convolutional_network_by_hand():
    pruned = prune_channels(network_problem("vgg_like"), 0.5, "snip", covers="channel")
    a, b, c, d = (len(k) for k in pruned.kept.values())
    assert (pruned.channels_before, pruned.channels_after, a + b + c + d) == (36, 18, 18)
    for parameters, macs, (i, j, k, n) in (
        (pruned.parameters_before, pruned.macs_before, (6, 8, 10, 12)),
        (pruned.parameters_after, pruned.macs_after, (a, b, c, d)),
    ):
        assert parameters == 27 * i + 9 * i * j + 9 * j * k + 3 * (i + j + k) + 4 * k * n + n + 3 * n + 3
        assert macs == 256 * 27 * i + 64 * 9 * i * j + 16 * 9 * j * k + 4 * k * n + 3 * n


# Smaller networks ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", list(NETWORKS))
def test_the_smaller_network_computes_what_the_whole_one_does_with_the_channels_at_zero(name):
    problem = network_problem(name)
    pruned = prune_channels(problem, 0.4, "snip", covers="channel")
    zeroed, (x, _) = with_channels_at_zero(problem.model, pruned.kept), problem.batches[0]
    before = problem.model.eval()(x)
    for statistics_of_the_batch in (False, True):
        for module in (*pruned.model.modules(), *zeroed.modules()):
            module.training = statistics_of_the_batch and isinstance(module, _BatchNorm)
        smaller, whole = pruned.model(x), zeroed(x)
        torch.testing.assert_close(smaller, whole, rtol=1e-9, atol=1e-9)
        assert not torch.allclose(smaller, before, rtol=0.01)
    assert pruned.parameters_after == sum(p.numel() for p in pruned.model.parameters()) < pruned.parameters_before
    assert pruned.macs_after < pruned.macs_before
    for layer, kept in pruned.kept.items():
        assert len(kept) == pruned.model.get_parameter(layer).shape[0]
        assert torch.equal(kept, kept.sort().values)


@pytest.mark.parametrize("name", ["mlp", "vgg_like", "separable", "resnet20"])
def test_the_smaller_network_trains(name):
    problem = network_problem(name, batches=4, dtype=torch.float32)
    pruned = prune_channels(problem, 0.4, **PROSPR)
    assert pruned.model.training
    optimizer, (x, y) = torch.optim.SGD(pruned.model.parameters(), lr=0.01), problem.batches[0]
    losses = []
    for _ in range(2):
        loss = F.cross_entropy(pruned.model(x), y)
        losses.append(float(loss.detach()))
        loss.backward()
        optimizer.step()
    assert losses[1] < losses[0]


def test_coupled_layers_keep_the_same_channels():
    problem = network_problem("resnet20")
    pruned = prune_channels(problem, 0.5, "snip", covers="channel")
    assert list(pruned.kept) == [name for name in problem.names if name != "fc.weight"]
    stage = ["conv1.weight", *(f"stage1.{i}.conv2.weight" for i in range(3))]
    for values in (pruned.kept, pruned.scores):
        assert all(torch.equal(values[name], values["conv1.weight"]) for name in stage)
    assert not torch.equal(pruned.scores["stage1.0.conv1.weight"], pruned.scores["conv1.weight"])
    separable = prune_channels(network_problem("separable"), 0.5, "snip", covers="channel").kept
    assert torch.equal(separable["stem.weight"], separable["depthwise.weight"])
    assert torch.equal(separable["stem.weight"], separable["pointwise.weight"])


@pytest.mark.parametrize("sparsity", [0.0, 0.3, 0.5, 0.77])
def test_an_exact_number_of_channels_is_kept_those_with_the_largest_scores(sparsity):
    problem = network_problem("vgg_like")
    pruned = prune_channels(problem, sparsity, "snip", covers="channel")
    assert pruned.channels_after == round((1 - sparsity) * 36) == sum(len(k) for k in pruned.kept.values())
    best = {name: int(s.argmax()) for name, s in pruned.scores.items()}
    others = [(s, name, i) for name, v in pruned.scores.items() for i, s in enumerate(v.tolist()) if i != best[name]]
    chosen = set(best.items())
    chosen |= {(name, i) for _, name, i in sorted(others, reverse=True)[: pruned.channels_after - 4]}
    assert chosen == {(name, i) for name, k in pruned.kept.items() for i in k.tolist()}


def test_no_layer_loses_all_its_channels():
    problem = network_problem("vgg_like")
    pruned = prune_channels(problem, 1 - 4 / 36, "snip", covers="channel")
    assert [len(k) for k in pruned.kept.values()] == [1, 1, 1, 1]
    with pytest.raises(InputError, match=r"sparsity 0\.95 keeps 2 of 36 channels in 4 groups of layers; accepted: one"):
        prune_channels(problem, 0.95, "snip", covers="channel")


def test_without_sparsity_the_network_is_the_same():
    problem = network_problem("separable")
    pruned = prune_channels(problem, 0.0, "snip", covers="channel")
    for old, new in zip(problem.model.state_dict().items(), pruned.model.state_dict().items(), strict=True):
        assert old[0] == new[0]
        assert torch.equal(old[1], new[1])


def test_the_model_stays_as_it_is_and_its_copy_keeps_modes_and_frozen_parameters():
    problem = network_problem("separable", batches=4)
    model = problem.model
    model.norm2.eval()
    model.stem.weight.requires_grad_(False)
    model.norm1.bias.requires_grad_(False)
    model.fc.weight.grad = torch.ones_like(model.fc.weight)
    before, random = copy.deepcopy(model), torch.get_rng_state()
    pruned = prune_channels(problem, 0.5, **PROSPR)
    for old, new in zip(before.state_dict().values(), model.state_dict().values(), strict=True):
        assert torch.equal(old, new)
    assert model.fc.weight.grad.eq(1).all()
    assert model.wide.weight.grad is None
    assert torch.equal(random, torch.get_rng_state())
    for copied in (model, pruned.model):
        assert [n for n, m in copied.named_modules() if not m.training] == ["norm2"]
        assert [n for n, p in copied.named_parameters() if not p.requires_grad] == ["stem.weight", "norm1.bias"]
    assert pruned.model.fc.weight.grad is None
    pruned.model.wide.bias.data.zero_()
    assert torch.equal(model.wide.bias, before.wide.bias)


def test_batches_of_several_inputs_or_keywords():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.left, self.right, self.head = nn.Linear(3, 6), nn.Linear(4, 6), nn.Linear(6, 2)

        def forward(self, a, b):
            return {"logits": self.head(F.relu(self.left(a) + self.right(b)))}

    torch.manual_seed(0)
    model, a, b, y = Two(), torch.randn(5, 3), torch.randn(5, 4), torch.arange(5) % 2
    by_place = pv.Problem(model, [(a, b, y)], lambda output, y: F.cross_entropy(output["logits"], y))
    by_name = pv.Problem(
        model, [{"b": b, "a": a, "y": y}], lambda output, batch: F.cross_entropy(output["logits"], batch["y"])
    )
    for problem in (by_place, by_name):
        pruned = prune_channels(problem, 0.5, "snip")
        assert torch.equal(pruned.kept["left.weight"], pruned.kept["right.weight"])
        zeroed = with_channels_at_zero(model, pruned.kept)
        torch.testing.assert_close(pruned.model(a, b)["logits"], zeroed(a, b)["logits"])


def test_importing_torch_pruning_and_pruning_with_it_say_nothing(monkeypatch, capfd):
    for name in [name for name in sys.modules if name.partition(".")[0] == "torch_pruning"]:
        monkeypatch.delitem(sys.modules, name)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        prune_channels(network_problem("separable", batches=4), 0.5, **PROSPR)
    assert tuple(capfd.readouterr()) == ("", "")


# What it accepts -----------------------------------------------------------------------------------------


def test_layers_that_stay_whole_are_listed_with_the_reason():
    pruned = prune_channels(networks.problem("transformer"), 0.5, "snip")
    assert list(pruned.kept) == ["mlp.0.weight"]
    assert pruned.whole == {
        "head.weight": "its channels are the network's output",
        "qkv.weight": "an operation mixes its channels",
        "project.weight": "its channels are normalized together",
        "mlp.2.weight": "its channels are normalized together",
    }
    depthwise = prune_channels(networks.problem("depthwise"), 0.4, "snip", covers="channel")
    assert depthwise.whole["0.weight"] == "its channels are the network's input"
    problem = network_problem("resnet20", prunable=lambda name, p: p.dim() > 1 and name != "stage1.1.conv2.weight")
    whole = prune_channels(problem, 0.4, "snip", covers="channel").whole
    assert whole["conv1.weight"] == "not all layers that it is coupled with are prunable"


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("linear", "no layer of Linear can lose channels .weight: its channels are the network's output"),
        ("grouped", "0.weight: a grouped convolution has it"),
        ("tied", "encode.weight: a layer shares its weight with another one"),
        ("attention", "own.in_proj_weight: torch-pruning does not see its channels"),
        ("buffers", "without some channels the network no longer runs .*; leave layers out with the problem's"),
    ],
)
def test_networks_without_removable_channels_are_refused(name, says):
    with pytest.raises(InputError, match=says) as caught:
        prune_channels(networks.problem(name), 0.5, "snip")
    assert "\n" not in str(caught.value)


def test_channels_that_are_coupled_with_others_of_their_own_layer_stay():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.few, self.many, self.head = nn.Linear(4, 3), nn.Linear(4, 6), nn.Linear(6, 3)

        def forward(self, x):
            few = self.few(x)
            return self.head(F.relu(self.many(x) + torch.cat([few, few], 1)))

    problem = pv.Problem(Twice(), [(torch.randn(5, 4), torch.arange(5) % 3)])
    with pytest.raises(InputError, match=r"many\.weight: its channels cannot be taken out one by one"):
        prune_channels(problem, 0.5, "snip")


def test_buffers_that_a_forward_pass_changes_are_those_of_the_model():
    class Counting(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Linear(4, 6), nn.Linear(6, 3)
            self.register_buffer("calls", torch.zeros((), dtype=torch.int64))

        def forward(self, x):
            self.calls += 1
            return self.second(F.relu(self.first(x)))

    problem = pv.Problem(Counting(), [(torch.randn(5, 4), torch.arange(5) % 3)])
    assert prune_channels(problem, 0.5, "snip").model.calls == 0
    assert problem.model.calls == 0


def test_a_network_that_tracing_misjudges_is_refused():
    class Flipped(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Linear(4, 6), nn.Linear(6, 3)

        def forward(self, x):
            return self.second(self.first(x).flip(1))

    torch.manual_seed(0)
    problem = pv.Problem(Flipped(), [(torch.randn(5, 4), torch.arange(5) % 3)])
    with pytest.raises(InputError, match="without some channels the network computes something else, by"):
        prune_channels(problem, 0.5, "snip")


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda p: prune_channels(p, 0.5, "grasp"), "scorer of channels 'grasp' is not known; .* prospr, snip"),
        (lambda p: prune_channels(p, 0.5, covers="all"), "covers 'all' is not known; .*weights, channel"),
        (lambda p: prune_channels(p, 0.5, step=3), "option of scorer 'prospr' 'step' is not known; did you mean"),
        (lambda p: prune_channels(p, 1.0, "snip"), "sparsity 1.0 is not a fraction"),
        (lambda p: prune_channels(p, 0.5), "prospr with 3 steps on new data needs 4 batches"),
        (lambda p: channel_scores(p, lr=-1.0), "lr of prospr -1.0 is not accepted"),
    ],
)
def test_options_that_are_not_accepted_are_named(call, says):
    with pytest.raises(InputError, match=says) as caught:
        call(network_problem("mlp"))
    assert "\n" not in str(caught.value)


def test_without_torch_pruning_the_message_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch_pruning", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'pruneviz\[channels\]'"):
        channel_scores(network_problem("mlp"), "snip")
