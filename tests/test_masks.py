"""Masks as values: applied to the bit, saved and read back as they were, handed to torch's own pruning."""

import copy
import json
import os

import networks
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn
from torch.nn.utils import prune as torch_prune

import pruneviz as pv
from pruneviz import files
from pruneviz.errors import InputError

MASKED = ("conv_bn", "depthwise", "tied", "transformer", "conv_transpose", "dropout")


def bits(tensor):
    return tensor.detach().contiguous().view(torch.int64 if tensor.dtype == torch.float64 else torch.int32)


def example():
    """Three masks whose order is neither alphabetical nor by size."""
    generator = torch.Generator().manual_seed(0)
    shapes = {"z.weight": (3, 4), "a.weight": (2, 3, 3, 3), "m.weight": (5,)}
    return {name: torch.rand(shape, generator=generator) < 0.5 for name, shape in shapes.items()}


def equal(one, other):
    return list(one) == list(other) and all(torch.equal(one[n], other[n]) for n in one)


# Counting ------------------------------------------------------------------------------------------------


def test_counts_by_hand():
    masks = {
        "a": torch.tensor([[True, False], [False, False]]),
        "b": torch.tensor([True, True, False]),
        "c": torch.zeros(2, dtype=torch.bool),
    }
    assert pv.masks.counts(masks) == {"a": (1, 4), "b": (2, 3), "c": (0, 2)}
    assert pv.masks.densities(masks) == {"a": 0.25, "b": 2 / 3, "c": 0.0}
    assert pv.masks.kept(masks) == 3
    assert pv.masks.total(masks) == 9
    assert pv.masks.collapsed(masks) == ["c"]
    assert pv.masks.kept({}) == pv.masks.total({}) == 0


# Applying ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("name", MASKED)
def test_apply_zeroes_what_is_removed_and_leaves_every_other_bit(name, dtype):
    problem = networks.problem(name, dtype=dtype)
    masks = networks.random_masks(problem)
    before = {n: t.clone() for n, t in problem.model.state_dict().items()}
    identities = [id(p) for p in problem.model.parameters()]
    pv.apply(problem.model, masks)
    assert [id(p) for p in problem.model.parameters()] == identities
    shared = {id(p): n for n, p in problem.model.named_parameters()}
    for n, p in problem.model.named_parameters(remove_duplicate=False):
        mask = masks.get(shared[id(p)], torch.ones_like(p, dtype=torch.bool))
        assert torch.equal(bits(p)[mask], bits(before[n])[mask])
        assert not bits(p)[~mask].any()  # +0, not -0
    for n, b in problem.model.named_buffers():
        assert torch.equal(b, before[n])


def test_apply_keeps_minus_zero_and_not_a_number_where_kept_and_removes_them_where_removed():
    model = nn.Linear(4, 1, bias=False)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[-0.0, float("nan"), float("inf"), -0.0]]))
    pv.apply(model, {"weight": torch.tensor([[True, True, False, False]])})
    assert bits(model.weight)[0, 0] == bits(torch.tensor(-0.0))
    assert bool(model.weight[0, 1].isnan())
    assert bits(model.weight)[0, 2:].tolist() == [0, 0]


def test_apply_works_on_leaves_that_require_grad_and_without_a_graph():
    model = networks.model("linear")
    pv.apply(model, {"weight": torch.zeros(3, 4, dtype=torch.bool)})
    assert model.weight.is_leaf
    assert model.weight.requires_grad
    assert not model.weight.any()


@pytest.mark.parametrize("use", [pv.apply, pv.to_torch_prune], ids=["apply", "to_torch_prune"])
@pytest.mark.parametrize(
    ("bad", "says"),
    [
        ({"3.weigth": torch.ones(3, 3, 2, 2, dtype=torch.bool)}, "'3.weigth', which is no parameter of the model; its"),
        (
            {"3.weight": torch.ones(3, 3, 2, dtype=torch.bool)},
            r"\(3, 3, 2\); its parameter has shape \(3, 3, 2, 2\)",
        ),
        (
            {"3.weight": torch.ones(3, 3, 2, 2)},
            "has dtype torch.float32; accepted is a tensor of",
        ),
        ({"3.weight": torch.ones(3, 3, 2, 2).byte()}, "has dtype torch.uint8"),
        ({"3.weight": [[True]]}, "the mask of '3.weight' has type list"),
    ],
)
def test_a_mask_that_does_not_fit_leaves_the_model_unchanged(use, bad, says):
    problem = networks.problem("conv_bn")
    masks = {"0.weight": torch.zeros(3, 2, 3, 3, dtype=torch.bool), **bad}
    before = {n: t.clone() for n, t in problem.model.state_dict().items()}
    with pytest.raises(InputError, match=says) as caught:
        use(problem.model, masks)
    assert "\n" not in str(caught.value)
    after = problem.model.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[n], before[n]) for n in before)


# torch.nn.utils.prune ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MASKED)
def test_torchs_pruning_computes_the_same_network(name):
    ours, theirs = networks.problem(name), networks.problem(name)
    masks = networks.random_masks(ours)
    pv.apply(ours.model, masks)
    dense = {n: p.clone() for n, p in theirs.model.named_parameters(remove_duplicate=False)}
    assert pv.to_torch_prune(theirs.model, masks) is theirs.model
    ours.model.eval()
    theirs.model.eval()
    for x, _ in ours.batches:
        assert torch.equal(ours.model(x), theirs.model(x))
    state = theirs.model.state_dict()
    for n, mask in masks.items():
        assert torch.equal(state[f"{n}_mask"].bool(), mask)
        assert torch.equal(state[f"{n}_orig"], dense[n])  # nothing is lost until it is removed
    assert torch_prune.is_pruned(theirs.model)
    for n in dense:  # permanent, module by module
        owner, _, attribute = n.rpartition(".")
        module = theirs.model.get_submodule(owner)
        if hasattr(module, f"{attribute}_orig"):
            torch_prune.remove(module, attribute)
    assert not torch_prune.is_pruned(theirs.model)
    assert set(theirs.model.state_dict()) == set(ours.model.state_dict())
    for n, t in theirs.model.state_dict().items():
        assert torch.equal(t, ours.model.state_dict()[n]), n


def test_torchs_pruning_keeps_a_shared_weight_shared():
    problem = networks.problem("tied")
    pv.to_torch_prune(problem.model, networks.random_masks(problem))
    assert problem.model.encode.weight_orig is problem.model.decode.weight_orig
    assert problem.model.head is problem.model.again
    problem.model(problem.batches[0][0]).sum().backward()
    removed = problem.model.encode.weight_mask == 0
    assert removed.any()
    assert not problem.model.encode.weight_orig.grad[removed].any()


def test_torchs_pruning_of_a_model_that_is_one_layer():
    model = pv.to_torch_prune(nn.Linear(2, 1), {"weight": torch.tensor([[True, False]])})
    assert model.weight[0, 1] == 0


# Files ---------------------------------------------------------------------------------------------------


def test_a_round_trip_keeps_masks_order_and_meta(tmp_path):
    masks = example()
    meta = {"scorer": "snip", "sparsity": 0.9, "seed": 3, "nested": {"a": [1, None, True]}, "text": "Größe\n"}
    pv.save_masks(tmp_path / "m.safetensors", masks, meta=meta)
    loaded, read = pv.load_masks(tmp_path / "m.safetensors")
    assert equal(loaded, masks)
    assert read == meta
    assert os.listdir(tmp_path) == ["m.safetensors"]
    pv.save_masks(str(tmp_path / "m.safetensors"), {})
    assert pv.load_masks(str(tmp_path / "m.safetensors")) == ({}, {})


@settings(deadline=None, derandomize=True, max_examples=40)
@given(
    st.lists(st.text(min_size=1, max_size=8), unique=True, min_size=1, max_size=5),
    st.lists(st.lists(st.integers(0, 4), max_size=4), min_size=5, max_size=5),
    st.integers(0, 99),
)
def test_a_round_trip_of_any_names_and_shapes(tmp_path_factory, names, shapes, seed):
    names = [name for name in names if name != "__metadata__" and name.isprintable()] or ["w"]
    generator = torch.Generator().manual_seed(seed)
    masks = {n: torch.rand(shape, generator=generator) < 0.5 for n, shape in zip(names, shapes, strict=False)}
    path = tmp_path_factory.mktemp("masks") / "m.safetensors"
    pv.save_masks(path, masks)
    assert equal(pv.load_masks(path)[0], masks)


def test_masks_of_every_scope_and_masks_that_share_memory_can_be_saved(tmp_path):
    scores = {n: torch.rand(m.shape, generator=torch.Generator().manual_seed(1)) for n, m in example().items()}
    for scope in pv.SCOPES:
        masks = pv.allocate(scores, 0.4, scope)
        pv.save_masks(tmp_path / "m", masks)
        assert equal(pv.load_masks(tmp_path / "m")[0], masks)
    whole = torch.rand(4, 6) < 0.5
    views = {"a": whole, "b": whole, "c": whole.t(), "d": whole[:, ::2]}
    pv.save_masks(tmp_path / "m", views)
    assert equal(pv.load_masks(tmp_path / "m")[0], views)
    assert (tmp_path / "m").stat().st_size < 1000  # a view does not drag its whole tensor along


def test_any_program_can_read_the_file(tmp_path):
    masks = example()
    pv.save_masks(tmp_path / "m", masks, meta={"sparsity": 0.9})
    with safe_open(tmp_path / "m", framework="np") as file:
        assert json.loads(file.metadata()["meta"]) == {"sparsity": 0.9}
        for name, mask in masks.items():
            assert file.get_tensor(name).tolist() == mask.tolist()


def test_a_file_of_masks_that_another_program_wrote_is_read(tmp_path):
    masks = dict(sorted(example().items()))
    save_file(masks, tmp_path / "m")
    loaded, meta = pv.load_masks(tmp_path / "m")
    assert set(loaded) == set(masks)
    assert all(torch.equal(loaded[n], masks[n]) for n in masks)
    assert meta == {}


def test_writing_replaces_a_file_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "m"
    pv.save_masks(path, example(), meta={"first": True})
    before = path.read_bytes()

    def full_disk(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full_disk)
    with pytest.raises(OSError, match="No space left"):
        pv.save_masks(path, {"other": torch.ones(2, dtype=torch.bool)})
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["m"]


def test_files_that_cannot_be_read_are_one_line(tmp_path):
    path = tmp_path / "m"
    pv.save_masks(path, example(), meta={"a": 1})
    whole = path.read_bytes()
    torch.save({"weight": torch.ones(2)}, tmp_path / "pickle")
    damaged = {
        "empty": b"",
        "no header": whole[:4],
        "half a header": whole[:60],
        "half the tensors": whole[:-10],
        "too long": whole + b"more",
        "text": b"{'weight': [1, 0, 1]}" * 20,
        "pickle": (tmp_path / "pickle").read_bytes(),
    }
    for what, content in damaged.items():
        path.write_bytes(content)
        with pytest.raises(InputError, match="is damaged or not safetensors") as caught:
            pv.load_masks(path)
        assert str(path) in str(caught.value), what
        assert "\n" not in str(caught.value), what


@pytest.mark.parametrize(
    "metadata", [{"order": "5"}, {"order": '["other"]'}, {"order": "[not json"}, {"meta": "{"}, {"order": "[3]"}]
)
def test_a_header_that_makes_no_sense_is_one_line(tmp_path, metadata):
    save_file({"weight": torch.ones(3, dtype=torch.bool)}, tmp_path / "m", metadata=metadata)
    with pytest.raises(InputError, match="is damaged or not safetensors"):
        pv.load_masks(tmp_path / "m")


def test_a_file_of_weights_is_not_one_of_masks(tmp_path):
    save_file({"a": torch.ones(2, dtype=torch.bool), "b": torch.ones(3)}, tmp_path / "m")
    with pytest.raises(InputError, match=r"holds 'b' with dtype torch\.float32; a mask file holds torch.bool only"):
        pv.load_masks(tmp_path / "m")


def test_a_file_that_is_not_there_is_one_line(tmp_path):
    for path in (tmp_path / "none", tmp_path):
        with pytest.raises(InputError, match=r"there is no mask file at .*; masks are written by"):
            pv.load_masks(path)


@pytest.mark.parametrize(
    ("masks", "meta", "folder", "says"),
    [
        ({"a": torch.ones(2)}, None, "", "the mask of 'a' has dtype torch.float32"),
        ({"a": [True]}, None, "", "the mask of 'a' has type list"),
        ({}, {"a": torch.ones(1)}, "", "meta .* cannot be written as JSON"),
        ({}, {"a": float("nan")}, "", "meta .* cannot be written as JSON"),
        ({}, None, "none", "there is no folder .* to write masks to"),
    ],
)
def test_masks_that_cannot_be_saved_are_one_line_and_leave_no_file(tmp_path, masks, meta, folder, says):
    with pytest.raises(InputError, match=says):
        pv.save_masks(tmp_path / folder / "m", masks, meta=meta)
    assert os.listdir(tmp_path) == []


def test_a_pruned_network_survives_saving_and_loading_its_masks(tmp_path):
    problem, again = networks.problem("residual"), networks.problem("residual")
    masks = pv.prune(problem, "snip", 0.7)
    pv.save_masks(tmp_path / "m", masks)
    pv.apply(problem.model, masks)
    pv.apply(again.model, pv.load_masks(tmp_path / "m")[0])
    for x, _ in problem.batches:
        assert torch.equal(problem.model(x), again.model(x))


class Attention(nn.Module):
    """One encoder layer, whose attention reads the weight of `out_proj` without calling it."""

    def __init__(self):
        super().__init__()
        self.encoder = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
        self.head = nn.Linear(8, 3)

    def forward(self, x):
        return self.head(self.encoder(x).mean(1))


def test_torchs_pruning_holds_in_attention_while_it_is_trained():
    torch.manual_seed(0)
    model, x, y = Attention(), torch.randn(6, 5, 8), torch.arange(6) % 3
    masks = pv.prune(pv.Problem(model, [(x, y)]), "snip", 0.5)
    plain = copy.deepcopy(model)
    pv.apply(plain, masks)
    pv.to_torch_prune(model, masks)
    steps = [torch.optim.SGD(network.parameters(), 0.1) for network in (model, plain)]
    for _ in range(3):
        for network, step in zip((model, plain), steps, strict=True):
            step.zero_grad()
            nn.functional.cross_entropy(network(x), y).backward()
            step.step()
        pv.apply(plain, masks)
    torch.testing.assert_close(model.eval()(x), plain.eval()(x))
    for name in masks:
        owner, _, attribute = name.rpartition(".")
        torch_prune.remove(model.get_submodule(owner), attribute)
    torch.testing.assert_close(model(x), plain(x))
    assert all(bool((model.get_parameter(name)[~mask] == 0).all()) for name, mask in masks.items())
