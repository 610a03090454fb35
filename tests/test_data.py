"""Data sets: splits, augmentation, scoring batches, and what is said of files that are missing or damaged."""

import ast
import hashlib
import os
import pickle
import shlex
import struct
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
import torch
import torchvision.datasets
from hypothesis import given, settings
from hypothesis import strategies as st

from pruneviz import data
from pruneviz.errors import InputError


def numbered(counts, *, size=2, seed=0):
    """Images that carry their own number, with `counts[c]` of class c, in random order; and their labels."""
    labels = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    labels = labels[torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))]
    images = torch.zeros(len(labels), 1, size, size, dtype=torch.uint8)
    number = torch.arange(len(labels))
    images[:, 0, 0, 0], images[:, 0, 0, 1] = (number // 256).to(torch.uint8), (number % 256).to(torch.uint8)
    return images, labels


def numbers(x):
    return (x[:, 0, 0, 0].long() * 256 + x[:, 0, 0, 1].long()).tolist()


def small(counts, **options):
    x, y = numbered(counts)
    return data.from_tensors("small", x, y, x, y, classes=len(counts), **options)


# Splits.


@settings(deadline=None)
@given(
    counts=st.lists(st.integers(1, 40), min_size=2, max_size=6),
    fraction=st.floats(0.01, 1),
    validation=st.floats(0, 0.99),
    seed=st.integers(0, 2**63 - 1),
)
def test_the_split_is_disjoint_balanced_and_nested(counts, fraction, validation, seed):
    whole = small(counts, validation=validation, seed=seed)
    part = small(counts, validation=validation, seed=seed, fraction=fraction)
    train, aside = numbers(whole.train_x), numbers(whole.validation_x)
    assert sorted(train + aside) == list(range(sum(counts)))
    assert numbers(part.validation_x) == aside
    assert set(numbers(part.train_x)) <= set(train)
    for label, count in enumerate(counts):
        expected = min(round(count * validation), count - 1)
        assert int((whole.validation_y == label).sum()) == expected
        assert int((part.train_y == label).sum()) == max(1, round((count - expected) * fraction))
    labels = numbered(counts)[1]
    assert part.train_y.tolist() == labels[numbers(part.train_x)].tolist()
    assert part.validation_y.tolist() == labels[aside].tolist()


def test_the_split_depends_on_the_seed_and_on_nothing_else():
    first, again, other = (small([30, 40], seed=seed) for seed in (1, 1, 2))
    assert numbers(first.validation_x) == numbers(again.validation_x)
    assert numbers(first.validation_x) != numbers(other.validation_x)


def test_every_image_is_set_aside_equally_often():
    seeds = 400
    drawn = torch.zeros(40)
    for seed in range(seeds):
        drawn[numbers(small([20, 20], validation=0.25, seed=seed).validation_x)] += 1
    assert abs(drawn - seeds / 4).max() < 5 * (seeds * 0.25 * 0.75) ** 0.5


def test_without_a_validation_part_everything_trains():
    whole = small([3, 4], validation=0)
    assert whole.validation_x.shape == (0, 1, 2, 2)
    assert len(whole.validation_y) == 0
    assert len(whole.train_y) == 7


# The embedded digits.


def test_digits_are_those_of_scikit_learn():
    from sklearn.datasets import load_digits

    theirs = load_digits()
    test = np.zeros(len(theirs.target), bool)
    for label in range(10):
        own = [i for i, target in enumerate(theirs.target) if target == label]
        for k in range(36):
            test[own[k * len(own) // 36]] = True
    ours = data.load("digits", validation=0)
    for x, y, chosen in [(ours.train_x, ours.train_y, ~test), (ours.test_x, ours.test_y, test)]:
        assert x.dtype == torch.uint8
        assert y.dtype == torch.int64
        assert np.array_equal(np.round(x[:, 0].numpy() * (16 / 255)), theirs.images[chosen])
        assert np.array_equal(y.numpy(), theirs.target[chosen])
    assert int(ours.train_x.max()) == 255


def test_the_test_part_of_digits_is_the_same_for_everyone_and_balanced():
    whole = data.load("digits")
    other = data.load("digits", seed=3, fraction=0.2, validation=0.3)
    assert torch.equal(whole.test_x, other.test_x)
    assert torch.bincount(whole.test_y).tolist() == [36] * 10
    assert (whole.input_shape, whole.classes, whole.pad, whole.flip) == ((1, 8, 8), 10, 0, False)


def test_mean_and_deviation_are_those_of_the_train_part_before_any_split():
    everything = data.load("digits", validation=0).train_x.numpy().astype(np.float64) / 255
    for options in [{}, {"seed": 7}, {"fraction": 0.1, "validation": 0.4}]:
        loaded = data.load("digits", **options)
        assert loaded.mean == pytest.approx(everything.mean((0, 2, 3)), rel=1e-12)
        assert loaded.std == pytest.approx(everything.std((0, 2, 3)), rel=1e-12)


def test_statistics_equal_numpys_per_channel():
    x = torch.randint(256, (50, 3, 5, 7), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    x[:, 1] //= 3
    mean, std = data.channel_statistics(x)
    scaled = x.numpy() / 255.0
    assert mean == pytest.approx(scaled.mean((0, 2, 3)), rel=1e-12)
    assert std == pytest.approx(scaled.std((0, 2, 3)), rel=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_normalized_train_images_have_mean_zero_and_deviation_one(dtype):
    loaded = data.load("digits", validation=0)
    x = loaded.normalize(loaded.train_x, dtype)
    by_hand = (loaded.train_x.double() / 255 - loaded.mean[0]) / loaded.std[0]
    assert x.dtype == dtype
    torch.testing.assert_close(x.double(), by_hand, rtol=1e-5 if dtype == torch.float32 else 1e-12, atol=1e-6)
    assert float(x.mean()) == pytest.approx(0, abs=1e-5)
    assert float(x.std(correction=0)) == pytest.approx(1, abs=1e-5)


def test_what_evaluation_normalizes_first_can_still_be_trained_on():
    x, y = numbered([5, 6])
    fresh = data.from_tensors("fresh", x, y, x, y, classes=2)
    with torch.inference_mode():
        fresh.normalize(fresh.test_x, torch.float64)
    weight = torch.ones(4, dtype=torch.float64, requires_grad=True)
    (fresh.normalize(fresh.train_x, torch.float64).flatten(1) @ weight).sum().backward()
    assert weight.grad is not None


def test_moving_to_a_device_moves_every_tensor():
    moved = data.load("digits").to("meta")
    tensors = [value for value in vars(moved).values() if isinstance(value, torch.Tensor)]
    assert len(tensors) == 6
    assert {t.device.type for t in tensors} == {"meta"}


# Augmentation.


def slow_crop_and_flip(image, pad, dy, dx, flip):
    """One image, pixel by pixel: `dy`, `dx` count from the upper left corner of the padded image."""
    channels, height, width = image.shape
    out = np.zeros_like(image)
    for c in range(channels):
        for i in range(height):
            for j in range(width):
                row, column = i + dy - pad, (width - 1 - j if flip else j) + dx - pad
                if 0 <= row < height and 0 <= column < width:
                    out[c, i, j] = image[c, row, column]
    return out


@pytest.mark.parametrize(("pad", "flip"), [(1, True), (2, False), (2, True), (0, True)])
def test_every_image_is_one_of_the_slow_crops_and_every_crop_occurs(pad, flip):
    image = np.arange(1, 1 + 2 * 5 * 4, dtype=np.uint8).reshape(2, 5, 4)  # all pixels differ, none is padding
    crops = {
        slow_crop_and_flip(image, pad, dy, dx, mirrored).tobytes(): (dy, dx, mirrored)
        for dy in range(2 * pad + 1)
        for dx in range(2 * pad + 1)
        for mirrored in ([False, True] if flip else [False])
    }
    n = 200 * len(crops)
    batch = torch.from_numpy(image).expand(n, -1, -1, -1).clone()
    out = data.augment(batch, pad=pad, flip=flip, generator=torch.Generator().manual_seed(0))
    assert (out.shape, out.dtype) == (batch.shape, batch.dtype)
    assert torch.equal(batch, torch.from_numpy(image).expand_as(batch))  # the input is not changed
    drawn = [crops[one.tobytes()] for one in out.numpy()]
    occurred = {crop: drawn.count(crop) for crop in crops.values()}
    share = 1 / len(crops)
    tolerance = 5 * (n * share * (1 - share)) ** 0.5
    assert all(abs(count - n * share) < tolerance for count in occurred.values())


def test_each_image_of_a_batch_keeps_to_itself():
    generator = torch.Generator().manual_seed(1)
    x = torch.arange(1, 101, dtype=torch.float64).view(100, 1, 1, 1).expand(100, 3, 6, 6)
    out = data.augment(x, pad=2, flip=True, generator=generator)
    for number, image in enumerate(out, start=1):
        assert set(image.unique().tolist()) <= {0.0, float(number)}
        assert torch.equal(image[0], image[1])
        assert torch.equal(image[0], image[2])


def test_augmentation_depends_on_its_generator_alone():
    x = torch.randint(256, (32, 3, 8, 8), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    before = torch.get_rng_state()
    first, again, other = (
        data.augment(x, pad=4, flip=True, generator=torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(before, torch.get_rng_state())
    assert torch.equal(data.augment(x, pad=0, flip=False, generator=torch.Generator()), x)


# Scoring batches.


@settings(deadline=None, max_examples=30)
@given(per_class=st.integers(1, 5), batches=st.integers(1, 4), seed=st.integers(0, 1000))
def test_scoring_batches_are_balanced_disjoint_and_shuffled(per_class, batches, seed):
    source = small([20, 25, 22, 30], validation=0)
    drawn = data.scoring_batches(source, per_class=per_class, batches=batches, seed=seed, dtype=torch.float64)
    assert len(drawn) == batches
    seen = []
    for x, y in drawn:
        assert torch.bincount(y).tolist() == [per_class] * 4
        pixels = (x * source.std[0] + source.mean[0]).mul(255).round().to(torch.uint8)
        which = numbers(pixels)
        assert source.train_y[which].tolist() == y.tolist()
        seen += which
    assert len(set(seen)) == len(seen)


def test_scoring_batches_are_not_sorted_and_follow_the_seed():
    source = data.load("digits")
    (x, y), (other_x, _) = (data.scoring_batches(source, seed=seed)[0] for seed in (0, 1))
    assert x.dtype == torch.float32
    assert torch.equal(x, data.scoring_batches(source, seed=0)[0][0])
    assert not torch.equal(x, other_x)
    assert not torch.equal(y, y.sort().values)


def test_scoring_batches_need_no_image_more_than_they_use():
    source = small([6, 7, 9], validation=0)
    drawn = data.scoring_batches(source, per_class=3, batches=2)
    assert sum(len(y) for _, y in drawn) == 18
    with pytest.raises(InputError, match=r"2 x 4 images .* 'small' has 6 train images of class 0"):
        data.scoring_batches(source, per_class=4, batches=2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"per_class": 0}, "per_class 0"),
        ({"batches": 1.5}, "batches 1.5"),
        ({"seed": -3}, "seed -3"),
        ({"dtype": torch.bfloat16}, "bfloat16 is not accepted"),
    ],
)
def test_bad_options_of_scoring_batches_give_one_line(options, message):
    with pytest.raises(InputError, match=message):
        data.scoring_batches(small([5, 5]), **{"per_class": 1, **options})


# What is said about bad input.


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "cifar-10"}, "data set 'cifar-10' is not known; did you mean 'cifar10'?"),
        ({"fraction": 0}, "fraction 0 is not accepted: give a number with 0 < fraction <= 1"),
        ({"fraction": float("nan")}, "fraction nan"),
        ({"fraction": "half"}, "fraction 'half'"),
        ({"validation": 1}, "validation 1 is not accepted: give a number with 0 <= validation < 1"),
        ({"validation": -0.1}, "validation -0.1"),
        ({"validation": True}, "validation True"),
        ({"seed": 0.5}, "seed 0.5"),
    ],
)
def test_bad_arguments_of_load_give_one_line(options, message):
    with pytest.raises(InputError, match=message) as caught:
        data.load(**{"name": "digits", **options})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"train_x": torch.zeros(4, 1, 2, 2)}, "train_x is torch.float32"),
        ({"test_x": torch.zeros(4, 2, 2, dtype=torch.uint8)}, r"test_x is torch.uint8 of shape \(4, 2, 2\)"),
        ({"train_y": torch.zeros(3, dtype=torch.int64)}, r"train_y is torch.int64 of shape \(3,\)"),
        ({"test_y": torch.zeros(4)}, "test_y is torch.float32"),
        ({"train_y": torch.tensor([0, 1, 2, 0])}, "train_y holds labels from 0 to 2; accepted are 0 to 1"),
        ({"test_y": torch.tensor([0, 1, -1, 0])}, "test_y holds labels from -1 to 1"),
    ],
)
def test_tensors_that_are_no_images_are_refused(change, message):
    x, y = numbered([2, 2])
    with pytest.raises(InputError, match=message):
        data.from_tensors("own", **{"train_x": x, "train_y": y, "test_x": x, "test_y": y, **change}, classes=2)


def only_line(caught):
    line = str(caught.value)
    assert "\n" not in line
    return line


def assert_command_downloads(line, name, root):
    program = shlex.split(line.partition("get it with: ")[2])
    assert program[:2] == ["python", "-c"]
    call = ast.parse(program[2]).body[1].value
    assert ast.unparse(call) == f"pv.data.load({name!r}, root={str(root)!r}, download=True)"


FIRST_FILES = {
    "cifar10": "cifar-10-batches-py/data_batch_1",
    "cifar100": "cifar-100-python/train",
    "mnist": "MNIST/raw/train-images-idx3-ubyte",
}


@pytest.mark.parametrize("name", FIRST_FILES)
def test_missing_data_is_one_line_with_the_place_and_the_command(name, tmp_path, monkeypatch):
    root = tmp_path / "my data"
    with pytest.raises(InputError) as caught:
        data.load(name, root=root)
    line = only_line(caught)
    assert line.startswith(f"data set {name!r} is missing: {str(root / FIRST_FILES[name])!r} is not there")
    assert_command_downloads(line, name, root)

    monkeypatch.setenv("PRUNEVIZ_DATA", str(tmp_path / "elsewhere"))
    with pytest.raises(InputError, match=r"elsewhere.*PRUNEVIZ_DATA"):
        data.load(name)
    monkeypatch.delenv("PRUNEVIZ_DATA")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError) as caught:
        data.load(name)
    assert str(tmp_path / "data" / FIRST_FILES[name]) in only_line(caught)


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_a_file_with_the_wrong_checksum_is_called_damaged(name, tmp_path):
    kind = {"cifar10": torchvision.datasets.CIFAR10, "cifar100": torchvision.datasets.CIFAR100}[name]
    folder = tmp_path / kind.base_folder
    folder.mkdir()
    for file, _ in [*kind.train_list, *kind.test_list, (kind.meta["filename"], "")]:
        (folder / file).write_bytes(b"not the original")
    with pytest.raises(InputError) as caught:
        data.load(name, root=tmp_path)
    line = only_line(caught)
    assert line.startswith(f"data set {name!r} is damaged: {str(tmp_path / FIRST_FILES[name])!r} has the md5 ")
    assert hashlib.md5(b"not the original").hexdigest() in line
    assert kind.train_list[0][1] in line
    assert_command_downloads(line, name, tmp_path)


def write_cifar10(root, monkeypatch, spoil=None):
    """A CIFAR-10 of 20 + 20 images in the original's format, whose checksums torchvision is made to expect."""
    kind = torchvision.datasets.CIFAR10
    folder = root / kind.base_folder
    folder.mkdir(parents=True)
    pixels = np.random.default_rng(0).integers(256, size=(40, 3 * 32 * 32), dtype=np.uint8)
    labels = list(range(10)) * 4
    content = {
        "data_batch_1": {"data": pixels[:20], "labels": labels[:20]},
        "test_batch": {"data": pixels[20:], "labels": labels[20:]},
        "batches.meta": {"label_names": list("abcdefghij")},
    }
    md5 = {}
    for file, value in content.items():
        raw = pickle.dumps(value)[:-9] if file == spoil else pickle.dumps(value)
        (folder / file).write_bytes(raw)
        md5[file] = hashlib.md5(raw).hexdigest()
    monkeypatch.setattr(kind, "train_list", [["data_batch_1", md5["data_batch_1"]]])
    monkeypatch.setattr(kind, "test_list", [["test_batch", md5["test_batch"]]])
    monkeypatch.setattr(kind, "meta", {**kind.meta, "md5": md5["batches.meta"]})
    return pixels.reshape(40, 3, 32, 32), labels


def test_cifar_images_come_as_channels_rows_columns(tmp_path, monkeypatch):
    pixels, labels = write_cifar10(tmp_path, monkeypatch)
    loaded = data.load("cifar10", root=tmp_path, validation=0)
    assert np.array_equal(loaded.train_x.numpy(), pixels[:20])
    assert np.array_equal(loaded.test_x.numpy(), pixels[20:])
    assert loaded.train_y.tolist() == labels[:20]
    assert (loaded.classes, loaded.pad, loaded.flip, loaded.input_shape) == (10, 4, True, (3, 32, 32))
    assert loaded.train_x.is_contiguous()


def test_a_pickle_that_cannot_be_read_is_called_damaged(tmp_path, monkeypatch):
    write_cifar10(tmp_path, monkeypatch, spoil="test_batch")
    with pytest.raises(InputError, match=r"'cifar10' is damaged: .* cannot be read \(\w+: ") as caught:
        data.load("cifar10", root=tmp_path)
    only_line(caught)


def write_mnist(root, images=20):
    raw = root / "MNIST" / "raw"
    raw.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(1).integers(256, size=(images, 28, 28), dtype=np.uint8)
    labels = np.arange(images, dtype=np.uint8) % 10
    for part in ("train", "t10k"):
        header = struct.pack(">HBBIII", 0, 8, 3, images, 28, 28)
        (raw / f"{part}-images-idx3-ubyte").write_bytes(header + pixels.tobytes())
        (raw / f"{part}-labels-idx1-ubyte").write_bytes(struct.pack(">HBBI", 0, 8, 1, images) + labels.tobytes())
    return pixels, labels


def test_mnist_is_read_with_a_channel(tmp_path):
    pixels, labels = write_mnist(tmp_path)
    loaded = data.load("mnist", root=str(tmp_path), validation=0)
    assert np.array_equal(loaded.train_x.numpy(), pixels[:, None])
    assert np.array_equal(loaded.test_y.numpy(), labels)
    assert (loaded.pad, loaded.flip) == (0, False)


@pytest.mark.parametrize("length", [0, 3, 9, 16, 5000])
def test_an_mnist_file_that_is_cut_short_is_called_damaged(length, tmp_path):
    write_mnist(tmp_path)
    cut = tmp_path / "MNIST" / "raw" / "t10k-images-idx3-ubyte"
    cut.write_bytes(cut.read_bytes()[:length])
    with pytest.raises(InputError) as caught:
        data.load("mnist", root=tmp_path)
    line = only_line(caught)
    assert line.startswith(f"data set 'mnist' is damaged: {str(cut)!r} has {length} bytes, ")
    assert ("its header says 15696" if length >= 16 else "and not the header of an IDX file") in line
    assert_command_downloads(line, "mnist", tmp_path)


def test_a_download_replaces_what_is_damaged(tmp_path, monkeypatch):
    write_mnist(tmp_path)
    (tmp_path / "MNIST" / "raw" / "train-labels-idx1-ubyte").write_bytes(b"\0\0")
    fetched = []

    def download(url, download_root, filename, md5):
        fetched.append(filename)
        write_mnist(tmp_path)

    monkeypatch.setattr(torchvision.datasets.mnist, "download_and_extract_archive", download)
    assert len(data.load("mnist", root=tmp_path, validation=0, download=True).train_y) == 20
    assert "train-labels-idx1-ubyte.gz" in fetched
    fetched.clear()
    data.load("mnist", root=tmp_path, validation=0, download=True)
    assert fetched == []


@pytest.mark.parametrize(("name", "module"), [("cifar10", "cifar"), ("mnist", "mnist")])
def test_a_download_that_fails_is_one_line(name, module, tmp_path, monkeypatch):
    def download(*args, **kwargs):
        raise URLError("no route\nto host")

    monkeypatch.setattr(getattr(torchvision.datasets, module), "download_and_extract_archive", download)
    with pytest.raises(InputError, match=rf"'{name}' could not be downloaded to .*no route to host") as caught:
        data.load(name, root=tmp_path, download=True)
    only_line(caught)


# The real data sets.

FOLDER = os.environ.get("PRUNEVIZ_DATA", "")


def real(*folders: str) -> pytest.MarkDecorator:
    """Skip, saying so, where the folder of a real data set is not there."""
    missing = [folder for folder in folders if not FOLDER or not (Path(FOLDER) / folder).is_dir()]
    return pytest.mark.skipif(bool(missing), reason=f"PRUNEVIZ_DATA names no folder with {', '.join(missing)}")


@real("cifar-10-batches-py")
@pytest.mark.data
def test_real_cifar10_is_what_its_files_hold():
    loaded = data.load("cifar10")
    assert loaded.train_x.shape == (45_000, 3, 32, 32)
    assert torch.bincount(loaded.train_y).tolist() == [4500] * 10
    assert torch.bincount(loaded.validation_y).tolist() == [500] * 10
    folder = Path(FOLDER) / "cifar-10-batches-py"
    batches = [pickle.loads((folder / f"data_batch_{k}").read_bytes(), encoding="latin1") for k in range(1, 6)]
    pixels = np.concatenate([batch["data"] for batch in batches]).reshape(-1, 3, 1024)
    assert loaded.mean == pytest.approx(pixels.mean((0, 2)) / 255, rel=1e-12)
    squares = [np.square(pixels[:, channel], dtype=np.uint16).mean(dtype=np.float64) for channel in range(3)]
    assert loaded.std == pytest.approx(np.sqrt(squares - pixels.mean((0, 2)) ** 2) / 255, rel=1e-9)
    whole = torch.cat([loaded.train_x, loaded.validation_x]).view(50_000, -1).long().sum(1).sort().values
    assert np.array_equal(whole.numpy(), np.sort(pixels.reshape(50_000, -1).sum(1, dtype=np.int64)))


@real("cifar-10-batches-py")
@pytest.mark.data
def test_a_real_batch_that_is_damaged_is_named(tmp_path):
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    for file in (Path(FOLDER) / folder.name).iterdir():
        (folder / file.name).symlink_to(file)
    damaged = folder / "data_batch_4"
    raw = bytearray(damaged.read_bytes())
    damaged.unlink()
    raw[1_000_000] ^= 1
    damaged.write_bytes(raw)
    with pytest.raises(InputError, match=r"'cifar10' is damaged: .*data_batch_4' has the md5"):
        data.load("cifar10", root=tmp_path)
    damaged.unlink()
    with pytest.raises(InputError, match=r"'cifar10' is missing: .*data_batch_4' is not there"):
        data.load("cifar10", root=tmp_path)


@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "train", "test", "classes", "shape"),
    [
        pytest.param("cifar100", 50_000, 10_000, 100, (3, 32, 32), marks=real("cifar-100-python")),
        pytest.param("mnist", 60_000, 10_000, 10, (1, 28, 28), marks=real("MNIST")),
    ],
)
def test_the_other_real_data_sets_have_their_sizes(name, train, test, classes, shape):
    loaded = data.load(name, validation=0)
    assert (len(loaded.train_y), len(loaded.test_y), loaded.input_shape) == (train, test, shape)
    assert len(torch.bincount(loaded.train_y)) == loaded.classes == classes
    drawn = data.scoring_batches(loaded, per_class=1)
    assert drawn[0][0].shape == (classes, *shape)
