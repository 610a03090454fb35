"""What a problem takes as batches: tuples and dictionaries, whole and in parts."""

import networks
import pytest
import torch
import torch.nn.functional as F
from measure import peak_bytes
from networks import close
from torch import nn

import pruneviz as pv
from pruneviz.errors import InputError


class TwoInputs(nn.Module):
    """A network that takes two tensors and returns its output in a dictionary, as some libraries do."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.head = nn.Linear(4, 5), nn.Linear(3, 5), nn.Linear(5, 3)

    def forward(self, left, right, scale=1.0):
        return {"logits": self.head(torch.tanh(self.a(left) + scale * self.b(right)))}


def of_output(output, y):
    return F.cross_entropy(output["logits"], y)


def two_inputs(n=6, seed=0):
    generator = torch.Generator().manual_seed(seed)
    left = torch.randn(n, 4, generator=generator, dtype=torch.float64)
    right = torch.randn(n, 3, generator=generator, dtype=torch.float64)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = TwoInputs().double()
    return model, left, right, torch.arange(n) % 3


def as_dictionary(model, left, right, y):
    batch = {"left": left, "right": right, "labels": y}
    return pv.Problem(model, [batch], loss=lambda output, batch: of_output(output, batch["labels"]))


def plain_gradient(model, left, right, y):
    loss = of_output(model(left, right), y)
    names = [n for n, p in model.named_parameters() if p.dim() == 2]
    return dict(zip(names, torch.autograd.grad(loss, [model.get_parameter(n) for n in names]), strict=True))


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda m, a, b, y: pv.Problem(m, [(a, b, y)], loss=of_output), id="longer tuple"),
        pytest.param(lambda m, a, b, y: pv.Problem(m, [((a, b), y)], loss=of_output), id="pair with a tuple"),
        pytest.param(lambda m, a, b, y: pv.Problem(m, [({"right": b, "left": a}, y)], loss=of_output), id="keywords"),
        pytest.param(lambda m, a, b, y: pv.Problem(m, [[a, b, y]], loss=of_output), id="list"),
        pytest.param(as_dictionary, id="dictionary"),
    ],
)
def test_every_form_of_a_batch_is_the_same_problem(make):
    model, left, right, y = two_inputs()
    problem = make(model, left, right, y)
    loss, gradient = problem.gradient(problem.weights)
    assert loss == pytest.approx(of_output(model(left, right), y).item(), rel=1e-14)
    close(gradient, plain_gradient(model, left, right, y), rtol=1e-13)
    pair = pv.Problem(model, [(left, right, y)], loss=of_output)
    assert all(torch.equal(s, pv.score("snip", pair)[n]) for n, s in pv.score("snip", problem).items())


def test_entries_that_are_no_tensors_reach_the_model():
    model, left, right, y = two_inputs()
    batch = {"left": left, "right": right, "scale": 0.0, "labels": y, "ids": ["a"] * 6}
    problem = pv.Problem(model, [batch], loss=lambda output, batch: of_output(output, batch["labels"]))
    scores = pv.score("snip", problem)
    assert not scores["b.weight"].any()
    assert scores["a.weight"].any()


def test_a_model_with_keywords_gets_the_whole_dictionary_and_may_make_its_own_loss():
    class OwnLoss(TwoInputs):
        def forward(self, **batch):
            logits = super().forward(batch["left"], batch["right"])["logits"]
            return {"loss": F.cross_entropy(logits, batch["labels"])}

    plain, left, right, y = two_inputs()
    model = OwnLoss().double()
    model.load_state_dict(plain.state_dict())
    batch = {"left": left, "right": right, "labels": y}
    problem = pv.Problem(model, [batch], loss=lambda output, _: output["loss"])
    close(problem.gradient(problem.weights)[1], plain_gradient(plain, left, right, y), rtol=1e-13)


@pytest.mark.parametrize(
    ("batch", "says"),
    [
        ({"lft": torch.ones(2, 4)}, r"a batch has the keys 'lft'; the model's forward takes left, right, scale"),
        ({}, "a batch has the keys ; the model's forward takes"),
        ({"left": 3, "right": 4}, "batch 0 is a dict of length 2 of int, int; accepted"),
        ((torch.ones(2, 4), torch.ones(2, 3), 1), "batch 0 is a tuple of length 3 of Tensor, Tensor, int; accepted"),
        (
            {"left": torch.ones(2, 4).double()},
            r"'left' of batch 0 has dtype torch\.float64, the weights",
        ),
        ({"left": torch.ones(0, 4)}, r"batch 0 holds no examples: 'left' has shape \(0, 4\)"),
        ({"left": torch.ones(2, 4), "labels": torch.ones(2, device="meta")}, "'labels' of batch 0 is on meta"),
        ((torch.ones(2, 4), torch.ones(2, 3).double(), torch.ones(2)), "entry 1 of batch 0 has dtype torch.float64"),
    ],
)
def test_a_batch_that_cannot_be_used_is_one_line(batch, says):
    with pytest.raises(InputError, match=says) as caught:
        pv.Problem(TwoInputs(), [batch], loss=of_output)
    assert "\n" not in str(caught.value)


def test_a_temperature_needs_an_output_that_can_be_divided():
    model, left, right, y = two_inputs()
    problem = pv.Problem(model, [(left, right, y)], loss=of_output)
    with pytest.raises(InputError, match=r"a dict, which temperature 200 cannot divide; accepted: temperature=1"):
        pv.score("grasp", problem)
    assert pv.score("grasp", problem, temperature=1.0)["a.weight"].any()


# Labels --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("label", [3, -1, 255])
def test_a_label_without_a_logit_names_the_batch(label):
    problem = networks.problem("linear", sizes=(4, 3))
    y = problem.batches[1][1].clone()
    y[1] = label
    wrong = pv.Problem(problem.model, [problem.batches[0], (problem.batches[1][0], y)])
    with pytest.raises(InputError, match=f"batch 1 has the label {label}; the model has 3 outputs: accepted is 0 to 2"):
        pv.score("snip", wrong)


def test_a_label_that_cross_entropy_ignores_is_none():
    problem = networks.problem("linear", sizes=(4,))
    ((x, y),) = problem.batches
    ignoring = pv.Problem(problem.model, [(x, torch.where(torch.arange(4) < 2, y, -100))])
    close(pv.score("snip", ignoring), pv.score("snip", pv.Problem(problem.model, [(x[:2], y[:2])])), rtol=1e-12)


# Micro-batches -------------------------------------------------------------------------------------------


def with_micro_batches(problem, size):
    return pv.Problem(
        problem.model, problem.batches, problem.loss_function, problem.batchnorm, list(problem.names), micro_batch=size
    )


@pytest.mark.parametrize("scorer", list(pv.scorers()))
@pytest.mark.parametrize("name", ["bias_free", "transformer", "conv_bn"])
@pytest.mark.parametrize("size", [1, 4, 100])
def test_micro_batches_change_nothing_but_rounding_without_batch_statistics(scorer, name, size):
    """Batches of 6 and 4, cut into unequal parts: the parts' means are weighted by their examples."""
    whole = networks.problem(name, batchnorm="eval")
    close(networks.score(scorer, with_micro_batches(whole, size)), networks.score(scorer, whole), rtol=1e-9)


def test_with_batch_statistics_each_part_has_its_own():
    whole = networks.problem("conv_bn", sizes=(4, 4))
    halves = pv.Problem(whole.model, [(x[i : i + 2], y[i : i + 2]) for x, y in whole.batches for i in (0, 2)])
    cut = with_micro_batches(whole, 2)
    close(pv.score("snip", cut), {n: s / 2 for n, s in pv.score("snip", halves).items()}, rtol=1e-12)
    assert not torch.allclose(pv.score("snip", cut)["0.weight"], pv.score("snip", whole)["0.weight"], rtol=1e-3)


def test_dictionaries_are_cut_by_example():
    model, left, right, y = two_inputs(n=7)
    whole = as_dictionary(model, left, right, y)
    cut = with_micro_batches(whole, 3)
    assert [(piece.share, len(piece.batch["left"])) for piece in cut.pieces()] == [(3 / 7, 3), (3 / 7, 3), (1 / 7, 1)]
    close(pv.score("snip", cut), pv.score("snip", whole), rtol=1e-12)


@pytest.mark.parametrize(
    ("batch", "size", "says"),
    [
        (
            (torch.ones(4, 4), torch.ones(4, 3), torch.ones(3)),
            2,
            "batch 0 cannot be cut .* lengths are entry 0 4, entry 1 4, entry 2 3",
        ),
        ((torch.ones(4, 4), torch.ones(4, 3), torch.tensor(1.0)), 2, "lengths are .* entry 2 0"),
        ((torch.ones(4, 4), torch.ones(4, 3), torch.ones(4)), 0, "micro_batch 0 is not accepted: give a whole number"),
        ((torch.ones(4, 4), torch.ones(4, 3), torch.ones(4)), 2.5, "micro_batch 2.5 is not accepted"),
    ],
)
def test_a_batch_that_cannot_be_cut_is_refused_at_once(batch, size, says):
    with pytest.raises(InputError, match=says):
        pv.Problem(TwoInputs(), [batch], loss=of_output, micro_batch=size)


@pytest.mark.parametrize("scorer", ["snip", "grasp", "prospr", "ntk_sap"])
def test_the_memory_is_that_of_a_micro_batch(scorer):
    """Activations are by far the most here (5,000 numbers per example and layer against 2,000 weights)."""
    with torch.random.fork_rng(devices=[]):
        model = nn.Sequential(
            nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 8, 3, padding=1), nn.ReLU(), nn.Flatten()
        )
    batches = [(torch.randn(64, 3, 18, 18), torch.arange(64) % 10)] * 2
    peaks = {}
    for size in (64, 8):
        problem = pv.Problem(model, batches, micro_batch=size)
        networks.score(scorer, problem)
        peaks[size] = peak_bytes(lambda p=problem: networks.score(scorer, p))
    assert peaks[8] < peaks[64] / 4
