"""Data sets as folders of images: layouts, subsets of classes, decoding, streams, and what is said of damage."""

from __future__ import annotations

import hashlib
import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision.transforms.functional as tvf
from PIL import Image
from torchvision.transforms import RandomResizedCrop

import pruneviz as pv
from pruneviz import data, folders, stream
from pruneviz.errors import InputError
from pruneviz.evaluate import evaluate
from pruneviz.study import record
from pruneviz.study.preflight import check, not_done
from pruneviz.study.run import compute

CLASSES = ("n01", "n02", "n03")


def save(path: Path, number: int, size: tuple[int, int] = (64, 64), mode: str = "RGB") -> None:
    """A smooth image that carries its number as its brightness, and a bright left half."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.full((size[1], size[0], 3), number, np.uint8)
    pixels[:, : size[0] // 2, 0] = 200
    Image.fromarray(pixels).convert(mode).save(path, quality=95)


def tree(root: Path, name: str, *, test: str = "val", each: int = 6, size: tuple[int, int] = (64, 64)) -> Path:
    """A class's images have brightness 40 times its number and a little more for each image."""
    for number, label in enumerate(CLASSES, 1):
        for k in range(each):
            save(root / name / "train" / label / f"{label}_{k}.JPEG", 40 * number + k, size)
        for k in range(2):
            save(root / name / test / label / f"t{k}.JPEG", 40 * number + 20 + k, size)
    return root / name


def original_tiny(root: Path) -> Path:
    """The layout of the original archive: a folder `images` in each class, boxes, and annotations of a flat folder."""
    folder = root / "tiny-imagenet-200"
    rows = []
    for number, label in enumerate(CLASSES, 1):
        for k in range(6):
            save(folder / "train" / label / "images" / f"{label}_{k}.JPEG", 40 * number + k)
        (folder / "train" / label / f"{label}_boxes.txt").write_text("n_0.JPEG\t0\t0\t63\t63\n")
        for k in range(2):
            file = f"val_{10 * k + number}.JPEG"
            save(folder / "val" / "images" / file, 40 * number + 20 + k)
            rows.append(f"{file}\t{label}\t0\t0\t63\t63\n")
    (folder / "val" / "val_annotations.txt").write_text("".join(reversed(rows)))
    (folder / "test" / "images").mkdir(parents=True)
    return folder


def brightness(x: torch.Tensor) -> list[int]:
    """Of the last channel's right half, which no edge is near, to the nearest whole number."""
    right = x[:, 2, :, x.shape[3] * 3 // 4 :].float()
    assert float(right.std((1, 2)).max()) < 2.5  # what JPEG leaves of one colour
    return [round(v) for v in right.mean((1, 2)).tolist()]


def near(found: list[int], expected: list[int]) -> bool:
    return len(found) == len(expected) and all(abs(a - b) <= 1 for a, b in zip(found, expected, strict=True))


# Layouts.


@pytest.mark.parametrize(
    "write", [original_tiny, lambda root: tree(root, "tiny-imagenet-200")], ids=["original", "tree"]
)
def test_tiny_imagenet_is_read_in_both_layouts(write: Callable[[Path], Path], tmp_path: Path) -> None:
    write(tmp_path)
    loaded = data.load("tiny_imagenet", root=tmp_path, validation=0)
    assert (loaded.classes, loaded.input_shape, loaded.pad, loaded.flip) == (3, (3, 64, 64), 4, True)
    assert loaded.train_y.tolist() == [0] * 6 + [1] * 6 + [2] * 6
    assert near(brightness(loaded.train_x), [40 * c + k for c in (1, 2, 3) for k in range(6)])
    assert [round(v / 40) - 1 for v in brightness(loaded.test_x - 20)] == loaded.test_y.tolist()
    assert torch.bincount(loaded.test_y).tolist() == [2, 2, 2]
    assert loaded.train_x.dtype == torch.uint8


@pytest.mark.parametrize(
    "write", [original_tiny, lambda root: tree(root, "tiny-imagenet-200")], ids=["original", "tree"]
)
def test_a_part_of_the_classes_is_a_data_set(write: Callable[[Path], Path], tmp_path: Path) -> None:
    folder = write(tmp_path)
    (folder / "train" / "n02").rename(tmp_path / "elsewhere")
    loaded = data.load("tiny_imagenet", root=tmp_path, validation=0)
    assert loaded.classes == 2
    assert near(brightness(loaded.test_x), [60, 61, 140, 141])
    assert loaded.test_y.tolist() == [0, 0, 1, 1]


def test_any_folder_is_read_at_any_size_and_without_val_the_test_part_is_test(tmp_path: Path) -> None:
    tree(tmp_path, "my.flowers", test="test", size=(50, 80))
    loaded = data.load("folder:my.flowers:20", root=tmp_path, validation=0.5, fraction=0.5)
    assert loaded.input_shape == (3, 20, 20)
    assert (len(loaded.train_y), len(loaded.validation_y), len(loaded.test_y)) == (6, 9, 6)
    assert near(brightness(loaded.test_x), [60, 61, 100, 101, 140, 141])
    assert pv.Cell(dataset="folder:my.flowers:20").label.startswith("folder:my.flowers:20 ")


def test_grey_and_transparent_images_have_three_channels(tmp_path: Path) -> None:
    folder = tree(tmp_path, "mixed", each=2)
    save(folder / "train" / "n01" / "grey.png", 90, mode="L")
    save(folder / "train" / "n01" / "clear.png", 90, mode="RGBA")
    assert data.load("folder:mixed:16", root=tmp_path, validation=0).train_x.shape == (8, 3, 16, 16)


# What is said about bad input.


def spoil(folder: Path) -> None:
    (folder / "val" / "n03" / "t1.JPEG").write_bytes(b"no image")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (
            lambda f: f.rename(f.with_name("gone")),
            r"is missing: '.*/flowers/train' is not there; it is read as train/CLA",
        ),
        (lambda f: (f / "val").rename(f / "tests"), r"is missing: '.*/flowers/val' is not there"),
        (lambda f: (f / "train" / "n04").mkdir(), r"is damaged: .*n04"),
        (lambda f: (f / "val" / "n02").rename(f / "n02"), r"is damaged: .*'.*val' has no image of class 'n02'|n02"),
        (spoil, r"image '.*n03/t1.JPEG' cannot be read"),
    ],
    ids=["nothing", "no test part", "empty class", "class without test images", "no image"],
)
def test_a_folder_that_cannot_be_read_is_one_line(
    damage: Callable[[Path], object], message: str, tmp_path: Path
) -> None:
    damage(tree(tmp_path, "flowers", each=1))
    with pytest.raises(InputError, match=message) as caught:
        data.load("folder:flowers:8", root=tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["folder:", "folder:a", "folder:a:0", "folder:../a:8", "stream:a:b:8", "folder:a/b:8"])
def test_a_folder_is_named_with_its_size(name: str) -> None:
    with pytest.raises(InputError, match=r"is given as folder:NAME:SIZE in pixels"):
        pv.Cell(dataset=name)


def test_what_does_not_fit_into_memory_is_offered_as_a_stream(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree(tmp_path, "huge")
    needed = (18 + 6) * 3 * 64 * 64
    monkeypatch.setattr(folders, "_LIMIT", needed)
    assert len(data.load("folder:huge:64", root=tmp_path, validation=0).train_y) == 18
    monkeypatch.setattr(folders, "_LIMIT", needed - 1)
    with pytest.raises(InputError, match=r"'folder:huge:64' would take \S+ GiB of memory; 'stream:huge:64' reads it"):
        data.load("folder:huge:64", root=tmp_path)


# Streams.


@pytest.fixture
def flowers(tmp_path: Path) -> data.ImageData:
    tree(tmp_path, "imagenet", size=(75, 90))
    return data.load("imagenet", root=tmp_path, validation=0.34, seed=1)


def test_a_stream_has_the_split_of_its_labels_and_decodes_what_torchvision_does(flowers: data.ImageData) -> None:
    assert isinstance(flowers.train_x, stream.StreamedImages)
    assert flowers.train_x.shape == (12, 3, 224, 224)
    assert flowers.input_shape == (3, 224, 224)
    assert (flowers.mean, flowers.std) == (stream.IMAGENET_MEAN, stream.IMAGENET_STD)
    assert torch.bincount(flowers.train_y).tolist() == [4, 4, 4]
    assert torch.bincount(flowers.validation_y).tolist() == [2, 2, 2]
    assert [CLASSES[y] for y in flowers.train_y] == [Path(f).parent.name for f in flowers.train_x.files]
    assert not set(flowers.train_x.files) & set(flowers.validation_x.files)
    for index, file in enumerate(flowers.test_x.files):
        theirs = tvf.pil_to_tensor(tvf.center_crop(tvf.resize(Image.open(file), 256), 224))
        assert torch.equal(flowers.test_x[torch.tensor([index])][0], theirs)


def test_a_stream_is_indexed_as_a_tensor_is(flowers: data.ImageData) -> None:
    images = flowers.train_x
    whole = torch.cat(list(images.split(5)))
    assert [len(batch) for batch in images.split(5)] == [5, 5, 2]
    assert torch.equal(images[:2], whole[:2])
    assert torch.equal(images[torch.tensor([7, 0])], whole[[7, 0]])
    mask = torch.arange(12) % 5 == 0
    assert torch.equal(images[mask], whole[mask])
    assert images[:0].shape == (0, 3, 224, 224)
    assert images.select(mask).shape == (3, 3, 224, 224)


def test_random_parts_are_distributed_as_torchvisions() -> None:
    """Means and deviations of left, top, width and height over many draws, within five standard errors."""
    draws = 4000
    image = torch.empty(3, 60, 200)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        theirs = [RandomResizedCrop.get_params(image, [0.08, 1.0], [3 / 4, 4 / 3]) for _ in range(draws)]
    wanted = torch.tensor(theirs, dtype=torch.float64)[:, [1, 0, 3, 2]]
    draw = random.Random(0)
    found = torch.tensor([stream.random_part(200, 60, draw) for _ in range(draws)], dtype=torch.float64)
    error = ((found.var(0) + wanted.var(0)) / draws).sqrt()
    assert bool(((found.mean(0) - wanted.mean(0)).abs() < 5 * error).all())
    assert found.std(0).tolist() == pytest.approx(wanted.std(0).tolist(), rel=0.08)
    assert bool((found[:, 0] + found[:, 2] <= 200).all() & (found[:, 1] + found[:, 3] <= 60).all())
    assert stream.random_part(1000, 1, random.Random(0)) == (499, 0, 1, 1)  # no draw fits: the centre


def test_augmented_images_are_parts_of_the_image_in_both_directions(flowers: data.ImageData) -> None:
    order = torch.zeros(40, dtype=torch.int64)
    generator = torch.Generator().manual_seed(0)
    x = torch.cat(list(flowers.train_x.augmented(order, 16, generator)))
    assert x.shape == (40, 3, 224, 224)
    left, right = x[:, 0, :, 8].float().mean(1), x[:, 0, :, -9].float().mean(1)
    assert 5 < int((left > right + 50).sum()) < 35  # the bright half is on the left
    assert 5 < int((right > left + 50).sum()) < 35  # or, mirrored, on the right
    assert len({image.numpy().tobytes() for image in x}) > 30


@pytest.fixture
def threads() -> Iterator[Callable[[int], None]]:
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def test_an_epoch_of_a_stream_follows_its_generator_alone(
    flowers: data.ImageData, threads: Callable[[int], None]
) -> None:
    before = torch.get_rng_state(), random.getstate()

    def epoch(seed: int, number: int, augmented: bool = True) -> tuple[torch.Tensor, torch.Tensor]:
        threads(number)  # with two, two processes decode
        generator = torch.Generator().manual_seed(seed)
        batches = list(flowers.epoch(5, generator, augmented=augmented))
        assert [len(y) for _, y in batches] == [5, 5, 2]
        return torch.cat([x for x, _ in batches]), torch.cat([y for _, y in batches])

    (x, y), again, other = epoch(1, 1), epoch(1, 2), epoch(2, 1)
    assert torch.equal(x, again[0])
    assert torch.equal(y, again[1])
    assert not torch.equal(x, other[0])
    assert torch.bincount(y).tolist() == [4, 4, 4]
    plain, labels = epoch(3, 1, augmented=False)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert random.getstate() == before[1]
    whole = {
        image.numpy().tobytes(): int(label) for image, label in zip(flowers.train_x[:], flowers.train_y, strict=True)
    }
    assert {image.numpy().tobytes(): int(label) for image, label in zip(plain, labels, strict=True)} == whole


def cut_off(file: Path) -> None:
    save(file, 7)
    file.write_bytes(file.read_bytes()[:-40])


def chunk_in_a_chunk(file: Path) -> None:
    """The first chunk of pixels says that it has four bytes, so that the next one starts among the others."""
    save(file, 7)
    content = file.read_bytes()
    file.write_bytes(content[:33] + bytes([0, 0, 0, 4]) + content[37:])


@pytest.mark.parametrize(
    ("damage", "name", "reason"),
    [
        (cut_off, "a.png", "truncated"),
        (chunk_in_a_chunk, "a.png", "broken PNG file"),
        (lambda file: file.write_bytes(b"P6\n4 four\n255\n" + bytes(48)), "a.ppm", "four"),
        (lambda file: file.write_bytes(b"P6\n90000 90000\n255\n" + bytes(48)), "a.ppm", "exceeds limit"),
        (lambda file: file.write_bytes(b"no image"), "a.jpg", "cannot identify"),
    ],
    ids=["OSError", "SyntaxError", "ValueError", "DecompressionBombError", "UnidentifiedImageError"],
)
@pytest.mark.parametrize("number", [1, 2])
def test_a_damaged_image_is_one_line_that_names_its_file_whichever_process_decodes(
    damage: Callable[[Path], object],
    name: str,
    reason: str,
    number: int,
    tmp_path: Path,
    threads: Callable[[int], None],
) -> None:
    threads(number)
    file = tree(tmp_path, "pics", each=2) / "train" / "n02" / name
    damage(file)
    streamed = data.load("stream:pics:16", root=tmp_path, validation=0)
    with pytest.raises(InputError, match=reason) as caught:
        list(streamed.epoch(2, torch.Generator(), augmented=True))
    assert str(caught.value).startswith(f"image {str(file)!r} cannot be read: ")
    assert "\n" not in str(caught.value)
    assert "Traceback" not in str(caught.value)


def test_an_epoch_in_memory_is_one_permutation_of_augmented_images() -> None:
    digits = data.load("digits")
    generator, twin = (torch.Generator().manual_seed(4) for _ in range(2))
    order = torch.randperm(len(digits.train_y), generator=twin)
    for index, (x, y) in zip(order.split(100), digits.epoch(100, generator, augmented=True), strict=True):
        assert torch.equal(x, data.augment(digits.train_x[index], pad=0, flip=False, generator=twin))
        assert torch.equal(y, digits.train_y[index])


def test_a_stream_is_scored_and_evaluated_as_other_data_is(tmp_path: Path) -> None:
    tree(tmp_path, "small", size=(20, 30))
    streamed = data.load("stream:small:16", root=tmp_path, validation=0)
    decoded = data.from_tensors(
        "same", *(streamed.train_x[:], streamed.train_y, streamed.test_x[:], streamed.test_y), classes=3, validation=0
    )
    (x, y), (same_x, same_y) = (data.scoring_batches(d, per_class=2)[0] for d in (streamed, decoded))
    assert torch.equal(y, same_y)
    mean, std, other_mean, other_std = (
        torch.tensor(values).view(3, 1, 1) for values in (streamed.mean, streamed.std, decoded.mean, decoded.std)
    )
    torch.testing.assert_close((x * std + mean - other_mean) / other_std, same_x, rtol=1e-4, atol=1e-4)
    model = pv.models.create("resnet20", input_shape=(3, 16, 16), classes=3, width=0.2)
    loss, accuracy = evaluate(model, streamed, streamed.test_x, streamed.test_y)
    assert (loss, accuracy) == evaluate(model, streamed, streamed.test_x[:], streamed.test_y)


@pytest.mark.parametrize("dataset", ["folder:small:16", "stream:small:16"])
def test_an_experiment_runs_on_a_folder_of_images(
    dataset: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree(tmp_path, "small", size=(20, 30))
    monkeypatch.setenv("PRUNEVIZ_DATA", str(tmp_path))
    cell = pv.Cell(dataset=dataset, model="mlp", width=0.1, scorer="snip", sparsity=0.5, per_class=2)
    check([cell])
    compute([cell], tmp_path / "store", device="cpu", progress=False)
    result = record.read(record.path_of(tmp_path / "store", cell.hash))["result"]
    assert result["epochs"] == 8
    assert not result["diverged"]
    assert result["train_loss"][-1] < result["train_loss"][0]
    assert result["test_accuracy"] * 6 == pytest.approx(round(result["test_accuracy"] * 6))


def test_a_record_says_of_which_files_it_is_and_a_sweep_which_have_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, store = tree(tmp_path, "small", size=(20, 30)), tmp_path / "store"
    monkeypatch.setenv("PRUNEVIZ_DATA", str(tmp_path))
    of = {"model": "mlp", "width": 0.1, "fraction": 0.8, "per_class": 2}
    cells = [pv.Cell(dataset=name, **of) for name in ("folder:small:8", "stream:small:8")]
    digits = pv.Cell(model="mlp", width=0.1, fraction=0.1)
    compute([*cells, digits], store, device="cpu", progress=False)
    sha256 = hashlib.sha256(
        "".join(sorted(f"{p.relative_to(folder)}\t{p.stat().st_size}\n" for p in folder.rglob("*.JPEG"))).encode()
    ).hexdigest()
    for cell in cells:
        known = record.read(record.path_of(store, cell.hash))["environment"]["data"]
        assert known == {"classes": 3, "train": 12, "validation": 3, "test": 6, "sha256": sha256}
    assert "data" not in record.read(record.path_of(store, digits.hash))["environment"]

    def said() -> list[str]:
        lines: list[str] = []
        assert not_done([*cells, digits], store, lines.append) == []
        return lines

    (folder / "train" / ".hidden").write_text("of a file browser")
    assert said() == []
    monkeypatch.setenv("PRUNEVIZ_DATA", str(folder.rename(tmp_path / "moved").parent / "nowhere"))
    assert said() == []
    monkeypatch.setenv("PRUNEVIZ_DATA", str(tmp_path))
    (tmp_path / "moved").rename(folder)
    assert said() == []
    save(folder / "val" / "n01" / "more.JPEG", 9)
    assert said() == [
        f"warning: another content of data set {cell.dataset!r} has made 1 of the records, which stay as they are; "
        f"remove them to have them computed again: {cell.hash}.json"
        for cell in cells
    ]
    old = record.read(record.path_of(store, cells[0].hash))
    del old["environment"]["data"]
    record.write(store, old)
    assert len(said()) == 1


# The real Tiny-ImageNet, or a part of it.

FOLDER = os.environ.get("PRUNEVIZ_DATA", "")
TINY = next(
    (name for name in ("tiny-imagenet-20", "tiny-imagenet-200") if FOLDER and (Path(FOLDER) / name).is_dir()), ""
)


@pytest.mark.data
@pytest.mark.skipif(not TINY, reason="PRUNEVIZ_DATA names no folder with tiny-imagenet-20 or tiny-imagenet-200")
def test_real_tiny_imagenet_is_what_its_files_hold() -> None:
    loaded = data.load(f"folder:{TINY}:64", validation=0)
    classes = int(TINY.rpartition("-")[2])
    assert loaded.classes == classes
    assert torch.bincount(loaded.train_y).tolist() == [500] * classes
    assert torch.bincount(loaded.test_y).tolist() == [50] * classes
    names = sorted(path.name for path in (Path(FOLDER) / TINY / "train").iterdir())
    files = sorted((Path(FOLDER) / TINY / "train" / names[3]).rglob("*.JPEG"))
    with Image.open(files[7]) as image:
        assert np.array_equal(loaded.train_x[3 * 500 + 7].permute(1, 2, 0).numpy(), np.asarray(image.convert("RGB")))
    # In the neighbourhood of ImageNet's statistics, which were measured at another size and on all classes.
    assert loaded.mean == pytest.approx(stream.IMAGENET_MEAN, abs=0.05)
    assert loaded.std == pytest.approx(stream.IMAGENET_STD, abs=0.07)
