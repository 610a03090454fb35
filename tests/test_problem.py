"""The functional view of a model: what it differentiates, and that the model never notices.

Two kinds of evidence for losses and gradients: `backward()` on the model itself, and a loop that rebuilds the
network around plain tensors (`reference.py`). Purity is checked byte by byte.
"""

import contextlib
import copy
import warnings

import networks
import pytest
import reference
import torch
import torch.nn.functional as F
from torch import nn

import pruneviz as pv
from pruneviz.errors import InputError

CALLS = [
    pytest.param(lambda p: pv.score("random", p), id="random"),
    pytest.param(lambda p: pv.score("magnitude", p), id="magnitude"),
    pytest.param(lambda p: pv.score("snip", p), id="snip"),
    pytest.param(lambda p: pv.score("grasp", p), id="grasp"),
    pytest.param(lambda p: pv.score("grasp", p, variant="official"), id="grasp-official"),
    pytest.param(lambda p: pv.score("grasp", p, variant="synflow"), id="grasp-synflow"),
    pytest.param(lambda p: pv.score("grasp", p, variant="frankle"), id="grasp-frankle"),
    pytest.param(lambda p: pv.score("snip", p, masks=networks.random_masks(p)), id="snip-masked"),
    pytest.param(lambda p: pv.gradient_flow(p), id="gradient_flow"),
    pytest.param(lambda p: pv.prune(p, "snip", 0.5, schedule=pv.Linear(3)), id="prune"),
]


def data_bytes(tensor):
    return None if tensor is None else tensor.detach().reshape(-1).view(torch.uint8).numpy().tobytes()


def snapshot(model):
    """Everything that a scorer could change, as bytes and identities."""
    return {
        "parameters": [(n, id(p), p.data_ptr(), data_bytes(p), p._version) for n, p in model.named_parameters()],
        "requires_grad": [p.requires_grad for p in model.parameters()],
        "grad": [(id(p.grad), data_bytes(p.grad)) for p in model.parameters()],
        "buffers": [(n, id(b), data_bytes(b), b._version) for n, b in model.named_buffers()],
        "training": [m.training for m in model.modules()],
        "hooks": [
            [list(getattr(m, kind).items()) for kind in ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks")]
            for m in model.modules()
        ],
        "attributes": [sorted(m.__dict__) for m in model.modules()],
        "rng": data_bytes(torch.get_rng_state()),
        "modes": (torch.is_grad_enabled(), torch.is_autocast_enabled("cpu"), torch.get_float32_matmul_precision()),
    }


def unusual(name, dtype=torch.float64):
    """A problem whose model is in a state that is easily lost: mixed modes, frozen parts, some gradients, hooks."""
    problem = networks.problem(name, dtype=dtype)
    generator = torch.Generator().manual_seed(3)
    for i, module in enumerate(problem.model.modules()):
        module.training = i % 3 != 1
    for i, parameter in enumerate(problem.model.parameters()):
        parameter.requires_grad_(i % 3 != 0)
        if i % 2:
            parameter.grad = torch.randn(parameter.shape, generator=generator, dtype=dtype)
    problem.model.register_forward_hook(lambda module, inputs, output: None)
    next(problem.model.children(), problem.model).register_forward_pre_hook(lambda module, inputs: None)
    return problem


# What is prunable ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", networks.IDS)
def test_every_conv_and_linear_weight_is_prunable_once_in_model_order(name):
    assert networks.problem(name).names == networks.CASES[name].prunable


def test_names_are_taken_in_model_order_whatever_order_they_are_given_in():
    model, batches = networks.model("mlp_relu"), networks.batches("mlp_relu")
    problem = pv.Problem(model, batches, prunable=["4.weight", "0.bias", "0.weight"])
    assert problem.names == ("0.weight", "0.bias", "4.weight")
    assert list(pv.score("snip", problem)) == ["0.weight", "0.bias", "4.weight"]


def test_one_name_and_a_predicate_are_accepted():
    model, batches = networks.model("mlp_relu"), networks.batches("mlp_relu")
    assert pv.Problem(model, batches, prunable="2.weight").names == ("2.weight",)
    assert pv.Problem(model, batches, prunable=lambda name, p: p.dim() == 1).names == ("0.bias", "2.bias", "4.bias")


def test_weights_are_the_models_own_memory_and_follow_it():
    problem = networks.problem("linear")
    assert problem.weights["weight"].data_ptr() == problem.model.weight.data_ptr()
    assert not problem.weights["weight"].requires_grad
    with torch.no_grad():
        problem.model.weight.fill_(7.0)
    assert bool((problem.weights["weight"] == 7.0).all())


# Loss and gradient ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("batchnorm", ["train", "eval"])
@pytest.mark.parametrize("name", networks.IDS)
def test_loss_and_gradient_against_backward_on_a_copy_of_the_model(name, batchnorm):
    problem = networks.problem(name, batchnorm=batchnorm)
    loss, gradient = problem.gradient(problem.weights)
    twin = copy.deepcopy(problem.model)
    expected = 0.0
    for x, y in problem.batches:
        for module in twin.modules():
            module.training = batchnorm == "train" and isinstance(module, nn.modules.batchnorm._BatchNorm)
        value = F.cross_entropy(twin(x), y)
        value.backward()
        expected += value.item()
    parameters = dict(twin.named_parameters())
    assert loss == pytest.approx(expected, rel=1e-12)
    for layer, g in gradient.items():
        torch.testing.assert_close(g, parameters[layer].grad, rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("name", networks.IDS)
def test_loss_against_a_network_rebuilt_around_plain_tensors(name):
    problem = networks.problem(name)
    for p in problem.model.parameters():
        p.requires_grad_(False)
    masks = networks.random_masks(problem)
    for temperature in (1.0, 200.0):
        loss, _ = problem.gradient(problem.masked_weights(masks), temperature=temperature)
        twin = reference.Network(problem)
        assert loss == pytest.approx(float(twin.loss(twin.values(masks), temperature=temperature)), rel=1e-12)


@pytest.mark.parametrize("fails", [False, True])
def test_modes_that_the_model_sets_itself_are_put_back(fails):
    class Restless(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.drop, self.last = nn.Linear(3, 4), nn.Dropout(0.5), nn.Linear(4, 2)
            self.drop.eval()

        def forward(self, x):
            self.train()
            self.last.eval()
            if fails:
                raise ValueError("on the way")
            return self.last(self.first(x))

    problem = pv.Problem(Restless(), [(torch.ones(2, 3), torch.tensor([0, 1]))])
    before = [module.training for module in problem.model.modules()]
    with pytest.raises(ValueError, match="on the way") if fails else contextlib.nullcontext():
        problem.gradient(problem.weights)
    assert [module.training for module in problem.model.modules()] == before == [True, True, False, True]


def test_a_tensor_that_one_module_holds_under_two_names_is_one():
    class Twice(nn.Linear):
        def __init__(self):
            super().__init__(4, 3, bias=False)
            self.alias = self.weight
            self.register_buffer("count", torch.zeros(()))
            self.register_buffer("count_alias", self.count)

        def forward(self, x):
            self.count_alias += 1
            return F.linear(x, self.weight) + F.linear(x, self.alias) + (self.count - self.count_alias)

    model = Twice()
    problem = pv.Problem(model, [(torch.ones(2, 4), torch.tensor([0, 1]))])
    before = snapshot(model)
    _, gradient = problem.gradient(problem.weights)
    assert snapshot(model) == before
    assert problem.names == ("weight",)
    F.cross_entropy(model(problem.batches[0][0]), problem.batches[0][1]).backward()
    torch.testing.assert_close(gradient["weight"], model.weight.grad)


def test_batchnorm_is_a_choice_that_matters_and_dropout_is_none():
    train, evaluation = (networks.problem("conv_bn", batchnorm=mode) for mode in ("train", "eval"))
    assert train.gradient(train.weights)[0] != evaluation.gradient(evaluation.weights)[0]
    problem = networks.problem("dropout")
    problem.model.train()
    first = pv.score("snip", problem)
    torch.rand(1)  # moves the global generator on
    assert all(torch.equal(first[n], s) for n, s in pv.score("snip", problem).items())


def test_a_weight_that_the_loss_does_not_reach_scores_zero_with_a_warning():
    class Unused(nn.Module):
        def __init__(self):
            super().__init__()
            self.used, self.unused = nn.Linear(4, 3), nn.Linear(4, 3)

        def forward(self, x):
            return self.used(x)

    problem = pv.Problem(Unused(), [(torch.ones(2, 4), torch.tensor([0, 1]))])
    for scorer in ("snip", "grasp"):
        with pytest.warns(UserWarning, match=r"does not depend on unused\.weight"):
            scores = pv.score(scorer, problem)
        assert not scores["unused.weight"].any()
        assert scores["used.weight"].any()


# Purity --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("call", CALLS)
def test_nothing_of_the_model_changes(call):
    problem = unusual("conv_bn")
    before = snapshot(problem.model)
    call(problem)
    assert snapshot(problem.model) == before


@pytest.mark.parametrize("name", networks.IDS)
@pytest.mark.parametrize("scorer", list(pv.scorers()))
def test_nothing_changes_in_any_kind_of_network(name, scorer):
    problem = unusual(name, torch.float32)
    before = snapshot(problem.model)
    networks.score(scorer, problem)
    pv.gradient_flow(problem)
    assert snapshot(problem.model) == before


class Fuse(nn.Module):
    """Raises in its n-th forward pass, counted from when it was armed."""

    def __init__(self):
        super().__init__()
        self.left = None

    def forward(self, x):
        if self.left is not None:
            self.left -= 1
            if self.left < 0:
                raise RuntimeError("blown")
        return x + torch.rand(1, dtype=x.dtype)  # draws from the global generator


@pytest.mark.parametrize("call", CALLS[2:])
def test_nothing_changes_when_the_forward_raises_at_any_call(call):
    problem = unusual("conv_bn")
    fuse = Fuse()
    problem.model[4].register_forward_hook(lambda module, inputs, output: fuse(output))
    before = snapshot(problem.model)
    raised = 0
    for calls in range(20):
        fuse.left = calls
        try:
            call(problem)
        except RuntimeError as error:
            assert str(error) == "blown"  # noqa: PT017 - how often it raises is what is counted
            raised += 1
        else:
            break
        finally:
            assert snapshot(problem.model) == before
    assert raised >= len(problem.batches) - 1 > 0
    assert raised < 20


def test_a_forward_that_draws_leaves_the_generator_where_it_was():
    problem = networks.problem("mlp_relu")
    problem.model.append(Fuse())
    before = torch.get_rng_state()
    pv.score("grasp", problem)
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(1)
    assert not torch.equal(torch.get_rng_state(), before)  # the comparison can fail


def test_hooks_stay_and_are_called_and_may_change_the_output():
    problem = networks.problem("mlp_relu")
    calls = []
    problem.model.register_forward_hook(lambda module, inputs, output: (calls.append(1), 2 * output)[1])
    hooked = pv.score("snip", problem)
    assert len(calls) == len(problem.batches)
    doubled = networks.problem("mlp_relu", loss=lambda output, y: F.cross_entropy(2 * output, y))
    for layer, s in pv.score("snip", doubled).items():
        torch.testing.assert_close(hooked[layer], s, rtol=1e-12, atol=0)
    problem.model(problem.batches[0][0])
    assert len(calls) == len(problem.batches) + 1


@pytest.mark.parametrize("call", [call for call in CALLS if call.id in ("snip", "grasp", "gradient_flow")])
@pytest.mark.parametrize(
    "context",
    [
        torch.no_grad,
        torch.inference_mode,
        lambda: torch.autocast("cpu", torch.bfloat16),
        lambda: torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.FLASH_ATTENTION),
    ],
    ids=["no_grad", "inference_mode", "autocast", "fused_attention"],
)
def test_the_callers_context_does_not_matter(call, context):
    problem = networks.problem("transformer", dtype=torch.float32)
    outside = call(problem)
    with warnings.catch_warnings(), context():
        warnings.simplefilter("error")
        inside = call(problem)
    if isinstance(outside, dict):
        assert all(torch.equal(outside[n], inside[n]) for n in outside)
    else:
        assert inside == outside


@pytest.mark.parametrize("older_switch", [False, True], ids=["per_backend", "common"])
def test_reduced_precision_of_the_caller_is_off_while_scoring_and_on_again_after(older_switch):
    seen = []

    def loss(output, y):
        seen.append((torch.backends.cuda.matmul.fp32_precision, torch.backends.mkldnn.matmul.fp32_precision))
        return F.cross_entropy(output, y)

    problem = networks.problem("mlp_relu", dtype=torch.float32, loss=loss)
    backends = torch.backends.cuda.matmul, torch.backends.mkldnn.matmul, torch.backends.cudnn.conv
    before = [backend.fp32_precision for backend in backends]
    try:
        if older_switch:
            torch.set_float32_matmul_precision("high")
        else:
            for backend in backends[:2]:
                backend.fp32_precision = "tf32"
        chosen = [backend.fp32_precision for backend in backends]
        pv.score("snip", problem)
        assert [backend.fp32_precision for backend in backends] == chosen
        assert chosen[:2] == ["tf32", "tf32"]
        if older_switch:
            assert torch.get_float32_matmul_precision() == "high"
    finally:
        for backend, precision in zip(backends, before, strict=True):
            backend.fp32_precision = precision
    assert set(seen) == {("ieee", "ieee")}


def test_flags_of_the_gpu_library_are_put_back():
    def flags():
        return torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic, torch.backends.cudnn.enabled

    seen = []
    problem = networks.problem("linear", loss=lambda o, y: (seen.append(flags()), F.cross_entropy(o, y))[1])
    before = flags()
    torch.backends.cudnn.benchmark = True
    try:
        pv.score("snip", problem)
        assert flags() == (True, before[1], before[2])
    finally:
        torch.backends.cudnn.benchmark = before[0]
    assert set(seen) == {(False, True, before[2])}


# Inputs that cannot be used ------------------------------------------------------------------------------

X, Y = torch.ones(2, 4), torch.tensor([0, 1])


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"batches": []}, "batches is a list of length 0; a non-empty sequence"),
        ({"batches": X}, "batches is a Tensor of length 2"),
        ({"batches": iter([(X, Y)])}, "batches is a list_iterator; a non-empty sequence"),
        ({"batches": [X]}, r"batch 0 is a Tensor of length 2; accepted: a tuple \(x, y\)"),
        ({"batches": [(X, Y), (X, 3)]}, "batch 1 is a tuple of length 2 of Tensor, int; accepted: a tuple"),
        ({"batches": [(X[:0], Y[:0])]}, r"batch 0 holds no examples: x has shape \(0, 4\)"),
        ({"batches": [(torch.tensor(1.0), Y)]}, r"batch 0 holds no examples: x has shape \(\)"),
        ({"batches": [(X, Y), (X.to("meta"), Y)]}, "x of batch 1 is on meta, the model is on cpu"),
        ({"batches": [(X, Y.to("meta"))]}, "y of batch 0 is on meta, the model is on cpu"),
        ({"batches": [(X.double(), Y)]}, r"x of batch 0 has dtype torch\.float64, the weights torch\.float32"),
        ({"batchnorm": "Train"}, "batchnorm 'Train' is not known; did you mean 'train'\\? accepted: train, eval"),
        ({"batchnorm": None}, "batchnorm None is not known"),
        ({"prunable": ["wieght"]}, "'wieght' is not known; did you mean 'weight'\\? accepted: weight, bias"),
        ({"prunable": lambda name, p: False}, "nothing to prune"),
        ({"prunable": []}, r"nothing to prune: prunable=\[\]"),
    ],
)
def test_an_input_that_cannot_be_used_is_one_line(arguments, says):
    given = {"model": nn.Linear(4, 3), "batches": [(X, Y)]} | arguments
    with pytest.raises(InputError, match=says) as caught:
        pv.Problem(**given)
    assert "\n" not in str(caught.value)


def test_a_model_with_nothing_to_prune_says_so():
    with pytest.raises(InputError, match="nothing to prune"):
        pv.Problem(nn.Sequential(nn.BatchNorm1d(4)), [(X, Y)])
    with pytest.raises(InputError, match="nothing to prune"):
        pv.Problem(nn.ReLU(), [(X, Y)])


@pytest.mark.parametrize(
    ("loss", "says"),
    [
        (lambda o, y: F.cross_entropy(o, y, reduction="none"), r"the loss of batch 0 has shape \(2,\); a scalar"),
        (lambda o, y: o.sum() * float("nan"), "the loss of batch 0 is nan; scores need a finite loss"),
        (lambda o, y: o.sum() * float("inf"), "the loss of batch 0 is -?inf"),
    ],
)
@pytest.mark.parametrize("scorer", ["snip", "grasp"])
def test_a_loss_that_is_no_finite_number_is_one_line(scorer, loss, says):
    problem = pv.Problem(networks.model("linear", dtype=torch.float32), [(X, Y)], loss=loss)
    with pytest.raises(InputError, match=says):
        pv.score(scorer, problem)


def test_the_batch_with_the_bad_loss_is_named():
    problem = pv.Problem(nn.Linear(4, 3), [(X, Y), (X * float("nan"), Y)])
    with pytest.raises(InputError, match="the loss of batch 1 is nan"):
        pv.gradient_flow(problem)


@pytest.mark.parametrize(
    ("masks", "says"),
    [
        ({"weihgt": torch.ones(3, 4).bool()}, "names 'weihgt', which is no parameter"),
        ({"bias": torch.ones(3).bool()}, "names 'bias', not a prunable weight: weight"),
        ({"weight": torch.ones(3, 4)}, r"dtype torch\.float32; accepted is a tensor of torch\.bool"),
        ({"weight": torch.ones(4, 3).bool()}, r"shape \(4, 3\); its parameter has shape \(3, 4\)"),
    ],
)
def test_a_mask_that_does_not_fit_is_one_line(masks, says):
    problem = networks.problem("linear")
    for call in (lambda: pv.score("snip", problem, masks=masks), lambda: pv.gradient_flow(problem, masks)):
        with pytest.raises(InputError, match=says):
            call()


def test_a_gradient_is_one_also_where_gradients_are_off() -> None:
    problem = networks.problem("conv_bn")
    _, expected = problem.gradient(problem.weights)
    for off in (torch.no_grad(), torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16)):
        with off:
            _, found = problem.gradient(problem.weights)
        assert all(torch.equal(found[name], g) for name, g in expected.items())
        assert any(bool(g.any()) for g in found.values())


def test_a_weight_that_is_computed_is_not_computed_to_find_what_is_prunable():
    """Spectral normalization takes a step of the power iteration whenever its weight is read in training mode."""
    model = nn.Sequential(nn.utils.parametrizations.spectral_norm(nn.Linear(4, 5)), nn.ReLU(), nn.Linear(5, 3)).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    problem = pv.Problem(model, [(torch.randn(6, 4), torch.arange(6) % 3)])
    pv.isometry_distance(model)
    pv.FlowRecorder()(0, model, torch.zeros(()))
    assert problem.names == ("2.weight",)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("scorer", ["snip", "grasp", "synflow"])
def test_tensors_that_a_forward_leaves_in_attributes_are_put_back(scorer):
    class Keeps(nn.Linear):
        def forward(self, x):
            self.features = super().forward(x)
            return self.features

    model = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 3), Keeps(3, 3))
    x = torch.randn(6, 4)
    pv.to_torch_prune(model, {"0.weight": torch.arange(20).view(5, 4) % 2 == 0})
    model(x)
    weight, features = model[0].weight, model[3].features
    pv.score(scorer, pv.Problem(model, [(x, torch.arange(6) % 3)]))
    assert model[0].weight is weight
    assert model[3].features is features
    del model[3].features
    pv.score(scorer, pv.Problem(model, [(x, torch.arange(6) % 3)]))
    assert not hasattr(model[3], "features")


def test_a_model_that_takes_a_collection_is_called_by_keyword():
    class Takes(nn.Linear):
        def forward(self, given):
            return super().forward(sum(given.values() if isinstance(given, dict) else given))

    torch.manual_seed(0)
    model, a, b, y = Takes(4, 3), torch.randn(6, 4), torch.randn(6, 4), torch.arange(6) % 3
    expected = float(F.cross_entropy(model([a, b]), y).detach())
    for x in ([a, b], {"a": a, "b": b}):
        problem = pv.Problem(model, [({"given": x}, y)])
        assert problem.gradient(problem.weights)[0] == pytest.approx(expected)


def test_names_may_come_from_a_generator():
    model = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 3))
    batch = torch.randn(6, 4), torch.arange(6) % 3
    assert pv.Problem(model, [batch], prunable=(name for name in ["2.weight", "0.weight"])).names == (
        "0.weight",
        "2.weight",
    )


@pytest.mark.parametrize("kind", ["output", "target"])
def test_what_cross_entropy_cannot_take_is_one_line(kind):
    class Pair(nn.Linear):
        def forward(self, input):
            return super().forward(input), None

    x, y = torch.randn(6, 4), torch.arange(6) % 3
    problem = pv.Problem(Pair(4, 3), [(x, y)]) if kind == "output" else pv.Problem(nn.Linear(4, 3), [{"input": x}])
    with pytest.raises(InputError, match=rf"^the .*{kind} is a (tuple|dict), .*accepted: a tensor, or a loss of"):
        pv.score("snip", problem)
