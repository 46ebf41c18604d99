"""helpers.data: normalisation, the shipped faces, CelebA, splits of one's own photographs."""

import shutil
import warnings
import zipfile

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from helpers import data
from helpers.data import denormalise, normalise, normalise_by_mean
from helpers.edges import four_channels
from helpers.engine.errors import ImageError
from tests.conftest import make_faces
from tests.pictures import encoded, save

# ---------------------------------------------------------------------------------------------------------------------
# Normalisation

ALL_VALUES = np.repeat(np.arange(256, dtype=np.uint8).reshape(16, 16, 1), 3, axis=2)


@pytest.mark.parametrize(("value", "expected"), [(0, -1.0), (127, -1 / 255), (128, 1 / 255), (255, 1.0)])
def test_normalise_by_hand(value, expected):
    """Equation 31 at its ends and around its middle: (127 - 127.5) / 127.5 = -1/255."""
    image = np.full((2, 3, 3), value, np.uint8)
    result = normalise(image)
    assert result.dtype == torch.float32 and result.shape == (3, 2, 3)
    # 1e-7: one rounding of a float32 of size 1.
    assert torch.allclose(result, torch.tensor(expected, dtype=torch.float32), rtol=0, atol=1e-7)


def test_both_forms_agree():
    """Equation 31 equals equation 32 on all 256 values; each form rounds twice in float32, hence 2e-7."""
    assert torch.allclose(normalise(ALL_VALUES), normalise_by_mean(ALL_VALUES), rtol=0, atol=2e-7)


def test_normalise_by_mean_uses_mean_and_deviation():
    """Equation 32 by hand with μ = 0.25 and σ = 0.5: (1 - 0.25) / 0.5 = 1.5."""
    white = np.full((1, 1, 3), 255, np.uint8)
    assert normalise_by_mean(white, 0.25, 0.5).flatten().tolist() == [1.5] * 3


def test_inverse_is_exact():
    """denormalise undoes equation 31 for every 8-bit value, one picture or many."""
    assert np.array_equal(denormalise(normalise(ALL_VALUES)), ALL_VALUES)
    many = np.stack([ALL_VALUES, 255 - ALL_VALUES])
    assert np.array_equal(denormalise(normalise(many)), many)


def test_channels_keep_their_place():
    """H×W×3 becomes 3×H×W without mixing colours."""
    image = np.zeros((4, 5, 3), np.uint8)
    image[..., 1] = 255
    assert normalise(image).mean((1, 2)).tolist() == [-1, 1, -1]


def test_denormalise_clips_and_rounds():
    """Values outside [-1, 1] become 0 and 255; half steps go to the nearest 8-bit value."""
    x = torch.tensor([-3.0, 3.0, (100.4 - 127.5) / 127.5]).view(3, 1, 1)
    assert denormalise(x).flatten().tolist() == [0, 255, 100]


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_denormalise_refuses_what_is_not_finite(bad):
    x = torch.zeros(3, 4, 4)
    x[1, 2, 3] = bad
    with pytest.raises(ImageError, match="NaN or infinite"):
        denormalise(x)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((4, 4, 3), np.float32), "uint8"),
        (np.zeros((4, 4, 3), np.int64), "uint8"),
        (np.zeros((4, 4), np.uint8), r"\(4, 4\)"),
        (np.zeros((4, 4, 4), np.uint8), r"\(4, 4, 4\)"),
        (np.zeros((1, 1, 4, 4, 3), np.uint8), r"\(1, 1, 4, 4, 3\)"),
    ],
)
def test_normalise_says_what_is_wrong(image, message):
    with pytest.raises(ImageError, match=message):
        normalise(image)


def test_read_only_arrays_are_no_matter():
    """An image of scikit-image cannot be written to: it is copied, without a warning, and stays as it is."""
    image = np.arange(8 * 8 * 3, dtype=np.uint8).reshape(8, 8, 3)
    fixed = image.copy()
    fixed.flags.writeable = False
    edges = np.ones((1, 8, 8), np.uint8)
    edges.flags.writeable = False
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert torch.equal(normalise(fixed), normalise(image))
        assert torch.equal(normalise(fixed[:, ::-1]), normalise(image[:, ::-1]))
        assert torch.equal(normalise_by_mean(fixed), normalise_by_mean(image))
        assert torch.equal(normalise_by_mean(fixed[::-1]), normalise_by_mean(image[::-1]))
        assert four_channels(fixed[None], edges)[0, 3].min() == 1
    assert not fixed.flags.writeable


def test_normalise_takes_mirrored_and_cropped_views():
    """A view with negative strides, which PyTorch refuses, gives what its copy gives (equation 31)."""
    image = np.arange(8 * 8 * 3, dtype=np.uint8).reshape(8, 8, 3)
    for view in (image[:, ::-1], image[::-1, 2:6]):
        assert torch.equal(data.normalise(view), data.normalise(view.copy()))


# ---------------------------------------------------------------------------------------------------------------------
# The shipped faces


@pytest.fixture
def own_data(tmp_path, monkeypatch):
    """A data folder of its own: four faces in the test split, their parameters in mixed order."""
    pictures = make_faces(4, 128)
    folder = tmp_path / "faces"
    folder.mkdir()
    with zipfile.ZipFile(folder / "test.zip", "w") as archive:
        for i in (2, 0, 3, 1):
            archive.writestr(f"{i:05d}.png", encoded(Image.fromarray(pictures[i]), "png"))
    rows = [(3, "test", 33), (0, "test", 30), (0, "train", 99), (2, "test", 32), (1, "test", 31)]
    pd.DataFrame(rows, columns=["index", "split", "age"]).to_csv(folder / "parameters.csv", index=False)
    monkeypatch.setenv("COURSE_DATA", str(tmp_path))
    return tmp_path, pictures


def test_load_faces_reads_in_order(own_data):
    _, pictures = own_data
    assert np.array_equal(data.load_faces("test"), pictures)
    assert np.array_equal(data.load_faces("test", limit=2), pictures[:2])
    assert len(data.load_faces("test", limit=100)) == 4


def test_load_parameters_are_aligned(own_data):
    table = data.load_parameters("test")
    assert table.index.tolist() == [0, 1, 2, 3] and table["age"].tolist() == [30, 31, 32, 33]


@pytest.mark.parametrize("loader", [data.load_faces, data.load_parameters, data.open_celeba])
def test_unknown_split(loader):
    with pytest.raises(ImageError, match="train, val, test"):
        loader("valid")


def test_missing_faces_say_how_to_get_them(tmp_path, monkeypatch):
    monkeypatch.setenv("COURSE_DATA", str(tmp_path / "nowhere"))
    with pytest.raises(ImageError, match=r"train\.zip is missing.*make_faces"):
        data.load_faces("train")


def test_damaged_archives(own_data):
    """A cut archive (or a stand-in that git left there), and a picture inside that is none."""
    folder, _ = own_data
    with zipfile.ZipFile(folder / "faces" / "train.zip", "w") as archive:
        archive.writestr("00000.png", b"broken")
    with pytest.raises(ImageError, match="00000.png is damaged"):
        data.load_faces("train")
    (folder / "faces" / "val.zip").write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(ImageError, match="val.zip is damaged"):
        data.load_faces("val")


@pytest.fixture(scope="module")
def shipped():
    """The whole of what the repository ships."""
    return {split: data.load_faces(split) for split in data.SPLITS}


@pytest.mark.parametrize("split", data.SPLITS)
def test_shipped_faces(shipped, split):
    """8-bit, 128×128, none blank, a row of parameters for each; a limit takes the first ones."""
    faces, table = shipped[split], data.load_parameters(split)
    assert faces.dtype == np.uint8 and faces.shape[1:] == (128, 128, 3)
    assert table.index.tolist() == list(range(len(faces)))
    assert min(face[::4, ::4].std() for face in faces) > 10
    assert np.array_equal(data.load_faces(split, limit=3), faces[:3])


def test_shipped_faces_are_all_different(shipped):
    """Within a split and between splits: a test face that was trained on would make every score a lie."""
    seen = {face.tobytes() for faces in shipped.values() for face in faces}
    assert len(seen) == sum(map(len, shipped.values()))


# ---------------------------------------------------------------------------------------------------------------------
# CelebA


LAYOUTS = {  # where the photographs and the list of the partition lie
    "torchvision": ("celeba/img_align_celeba", "celeba/list_eval_partition.txt"),
    "the authors'": ("CelebA/Img/img_align_celeba", "CelebA/Eval/list_eval_partition.txt"),
    "Kaggle's": ("img_align_celeba/img_align_celeba", "list_eval_partition.csv"),
    "bare": ("img_align_celeba", "list_eval_partition.txt"),
    "Kaggle's in celeba": ("celeba/img_align_celeba/img_align_celeba", "celeba/list_eval_partition.csv"),
}


def unpack_celeba(root, pictures, partition):
    """Six photographs of CelebA's frame: three train, one val, two test."""
    for i in range(6):
        save(root / pictures / f"{i + 1:06d}.jpg", np.full((218, 178, 3), 40 * i, np.uint8))
    comma = partition.endswith("csv")
    lines = ["image_id,partition"] * comma + [
        f"{i + 1:06d}.jpg{' ,'[comma]}{n}" for i, n in enumerate((0, 0, 0, 1, 2, 2))
    ]
    (root / partition).parent.mkdir(parents=True, exist_ok=True)
    (root / partition).write_text("\n".join(lines) + "\n", encoding="utf-8")


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
@pytest.mark.parametrize("download", [False, True])
def test_celeba_unpacked_by_hand(tmp_path, layout, download):
    """Found as people have it, and then nothing is downloaded."""
    unpack_celeba(tmp_path, *layout)
    sets = {split: data.open_celeba(split, tmp_path, download=download) for split in data.SPLITS}
    assert [len(photographs) for photographs in sets.values()] == [3, 1, 2]
    assert abs(int(sets["val"][0].mean()) - 120) <= 2 and sets["test"][1].shape == (128, 128, 3)


def test_celeba_in_part(tmp_path):
    """Photographs without the list, the list without photographs, a photograph that was not unpacked."""
    unpack_celeba(tmp_path, *LAYOUTS["torchvision"])
    (tmp_path / "celeba" / "img_align_celeba" / "000002.jpg").unlink()
    with pytest.raises(ImageError, match=r"1 of 3 photographs are missing \(000002.jpg is the first\)"):
        data.open_celeba("train", tmp_path)
    assert len(data.open_celeba("val", tmp_path)) == 1
    (tmp_path / "celeba" / "list_eval_partition.txt").rename(tmp_path / "list")
    with pytest.raises(ImageError, match=r"list_eval_partition.txt is missing.*by hand"):
        data.open_celeba("train", tmp_path)
    (tmp_path / "list").rename(tmp_path / "celeba" / "list_eval_partition.txt")
    shutil.rmtree(tmp_path / "celeba" / "img_align_celeba")
    with pytest.raises(ImageError, match=r"img_align_celeba/ is missing.*by hand"):
        data.open_celeba("train", tmp_path)


def test_celeba_without_gdown(tmp_path, monkeypatch):
    """A fresh install lacks the package that Google Drive needs: it is named, and the server is not blamed."""
    monkeypatch.setattr(data.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ImageError, match="pip install gdown") as error:
        data.open_celeba("train", tmp_path, download=True)
    assert "refuses" not in str(error.value) and "list_eval_partition.txt" in str(error.value)
    assert not list(tmp_path.iterdir())


def test_celeba_that_the_server_refuses(tmp_path, monkeypatch):
    import torchvision.datasets

    def refuse(*args, **kwargs):
        raise RuntimeError("quota exceeded")

    monkeypatch.setattr(torchvision.datasets, "CelebA", refuse)
    monkeypatch.setattr(data.importlib.util, "find_spec", lambda name: True)
    with pytest.raises(ImageError, match=r"download of CelebA failed.*by hand.*quota exceeded"):
        data.open_celeba("train", tmp_path, download=True)


def test_open_celeba_without_data(tmp_path):
    """No download is attempted unless asked for; the message says what to do."""
    with pytest.raises(ImageError, match=r"CelebA is not in .*download=True"):
        data.open_celeba("test", root=tmp_path)
    assert not list(tmp_path.iterdir())


# ---------------------------------------------------------------------------------------------------------------------
# Splits of one's own photographs


def test_load_split_by_position(tmp_path):
    """Of 40 files the 19th and 39th go to val, the 20th and 40th to test, the other 36 to train."""
    for i in range(40):
        save(tmp_path / f"{i:02d}.png", np.full((20, 20, 3), i, np.uint8))
    values = {split: data.load_split(tmp_path, split)[:, 0, 0, 0].tolist() for split in data.SPLITS}
    assert values["val"] == [18, 38] and values["test"] == [19, 39]
    assert sorted(sum(values.values(), [])) == list(range(40))
    assert len(data.load_split(tmp_path, "train", limit=5)) == 5


def test_load_split_from_folders(tmp_path):
    save(tmp_path / "train" / "a.png", np.full((20, 20, 3), 7, np.uint8))
    assert (data.load_split(tmp_path, "train") == 7).all()
    with pytest.raises(ImageError, match="no folder val/"):
        data.load_split(tmp_path, "val")


FOLDER_NAMES = [("Train", "Val"), ("TRAIN", "validation"), ("training", "valid"), ("train", "VAL")]


@pytest.mark.parametrize(("train", "val"), FOLDER_NAMES)
def test_folders_of_splits_are_known_by_their_names(tmp_path, train, val):
    """Whatever the case: otherwise all would be split by position, and validation pictures be trained on."""
    for i in range(20):
        save(tmp_path / train / f"{i}.png", np.full((20, 20, 3), 7, np.uint8))
        save(tmp_path / val / f"{i}.png", np.full((20, 20, 3), 200, np.uint8))
    assert (data.load_split(tmp_path, "train") == 7).all() and (data.load_split(tmp_path, "val") == 200).all()
    with pytest.raises(ImageError, match="no folder test/"):
        data.load_split(tmp_path, "test")


@pytest.mark.parametrize("names", [("train_images", "val_images"), ("train2017", "other"), ("a", "faces-test")])
def test_folders_that_resemble_splits_are_refused(tmp_path, names):
    for name in names:
        for i in range(20):
            save(tmp_path / name / f"{i}.png")
    for split in data.SPLITS:
        with pytest.raises(ImageError, match="rename this folder to train, val or test"):
            data.load_split(tmp_path, split)


def test_two_folders_of_one_split_are_refused(tmp_path):
    for name in ("val", "Validation"):
        save(tmp_path / name / "a.png")
    with pytest.raises(ImageError, match="both stand for val"):
        data.load_split(tmp_path, "val")


def test_other_subfolders_are_split_by_position(tmp_path):
    """People, years, trains: names that say nothing of a split, and hidden folders."""
    for k, name in enumerate(("anna", "2024", "constrained", ".train")):
        for i in range(10):
            save(tmp_path / name / f"{i}.png", np.full((20, 20, 3), k, np.uint8))
    assert [len(data.load_split(tmp_path, split)) for split in data.SPLITS] == [28, 1, 1]


def test_load_split_needs_twenty(tmp_path):
    for i in range(5):
        save(tmp_path / f"{i}.png")
    with pytest.raises(ImageError, match="at least 20"):
        data.load_split(tmp_path, "val")


def test_load_split_takes_the_shipped_faces_by_default(own_data):
    _, pictures = own_data
    assert np.array_equal(data.load_split(None, "test", 3), pictures[:3])
