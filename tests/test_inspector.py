"""helpers.inspector: what follows from a state, without a widget: every control's effect, the cache, uploads, gaps."""

import io
import zipfile

import numpy as np
import pytest
from PIL import Image

from helpers import inspector
from helpers.checkpoints import CheckpointError
from helpers.data import ImageError, data_folder, load_faces
from helpers.inspector import Workbench, column
from helpers.methods import Cancelled, load_method
from helpers.metrics import psnr
from helpers.pairs import Pairs
from helpers.state import State


@pytest.fixture(scope="module")
def shared():
    """One workbench for all that only look."""
    return Workbench()


@pytest.fixture
def bench(shared, monkeypatch):
    """A workbench of one's own; the networks, which nobody changes, are not loaded again."""
    shared.method("thesis")
    monkeypatch.setattr(inspector, "load_lpips", lambda: shared.ruler)
    fresh = Workbench()
    fresh._methods, fresh._sets = dict(shared._methods), dict(shared._sets)
    return fresh


def file_of(image, kind="PNG", **options) -> bytes:
    buffer = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(buffer, kind, **options)
    return buffer.getvalue()


# ---------------------------------------------------------------------------------------------------------------------
# What follows from a state


def test_default_state_is_the_test_set_as_chapter_11_measures_it(shared):
    """Same blur, same edges, same answer as Pairs and the method itself."""
    batch = Pairs(load_faces("test", 4)).batch([3])
    state = State(index=3)
    assert (
        np.array_equal(shared.blurred(state).image, batch.blurred[0])
        and shared.blurred(state).params == batch.params[0]
    )
    assert np.array_equal(shared.edges(state), batch.edges[0]) and np.array_equal(shared.sharp(state), batch.sharp[0])
    own = load_method("thesis").restore(batch.blurred)[0]
    assert np.array_equal(shared.restored(state, "thesis").image, own)
    assert shared.measures(state, "thesis")["PSNR"] == pytest.approx(psnr(own, batch.sharp[0]))


CONTROLS = {
    "picture": {"index": 1}, "set": {"source": "val"}, "kind": {"kind": "defocus", "strength": 6.0},
    "strength": {"strength": 3.0}, "noise": {"noise": 20}, "JPEG": {"quality": 10},
}  # fmt: skip


@pytest.mark.parametrize("changes", CONTROLS.values(), ids=CONTROLS)
def test_every_control_changes_input_answer_and_measures(shared, changes):
    state = State(kind="gaussian", strength=6.0)
    moved = state.but(**changes)
    assert not np.array_equal(shared.blurred(state).image, shared.blurred(moved).image)
    assert not np.array_equal(shared.restored(state, "thesis").image, shared.restored(moved, "thesis").image)
    for name in ("input", "thesis"):
        a, b = shared.measures(state, name), shared.measures(moved, name)
        assert a.keys() == b.keys() and all(a[k] != b[k] for k in a), name


def test_more_blur_is_worse_and_the_angle_turns_it(shared):
    at = [shared.measures(State(kind="gaussian", strength=s))["PSNR"] for s in (1.0, 3.0, 6.0, 8.0)]
    assert at == sorted(at, reverse=True)
    flat, steep = (shared.blurred(State(kind="motion", strength=15.0, angle=a)) for a in (0.0, 90.0))
    assert not np.array_equal(flat.image, steep.image) and flat.words == "motion 15 px, at 0°"
    change = (
        np.abs(np.diff(flat.image.astype(float), axis=1)).mean()
        / np.abs(np.diff(flat.image.astype(float), axis=0)).mean()
    )
    turned = (
        np.abs(np.diff(steep.image.astype(float), axis=1)).mean()
        / np.abs(np.diff(steep.image.astype(float), axis=0)).mean()
    )
    assert change < turned  # a level shake smears across columns


def test_canny_changes_edges_and_answer_but_not_the_input(shared):
    state = State()
    moved = state.but(low=60, high=120)
    assert shared.edges(moved).sum() < shared.edges(state).sum()
    assert np.array_equal(shared.blurred(state).image, shared.blurred(moved).image)
    assert not np.array_equal(shared.restored(state, "thesis").image, shared.restored(moved, "thesis").image)


def test_edge_channel(shared):
    """Blank is blank, sharp is that of the truth, and the model's answer follows."""
    state = State()
    assert shared.edges(state, "blank").sum() == 0
    sharp = shared.edges(state.but(kind="none"))
    assert np.array_equal(shared.edges(state, "sharp"), sharp)
    answers = [shared.restored(state, "thesis", kind).image for kind in ("blurred", "blank", "sharp")]
    assert not any(np.array_equal(answers[0], other) for other in answers[1:])
    with pytest.raises(ValueError):
        shared.edges(state, "golden")


def test_no_degradation_at_all(shared):
    state = State(kind="none")
    assert np.array_equal(shared.blurred(state).image, shared.sharp(state)) and shared.blurred(state).params == {}
    assert shared.measures(state)["PSNR"] == np.inf and shared.blurred(state).words == "not degraded"


def test_table(shared):
    table = shared.table(State())
    assert list(table.index) == ["input", "thesis's model"] and list(table.columns[:4]) == ["PSNR", "SSIM", "L1", "MSE"]
    assert table.loc["thesis's model", "parameters"] == load_method("thesis").parameters
    assert table.loc["thesis's model", "ms"] > 0 and np.isnan(table.loc["input", "ms"])
    assert table.loc["input", "PSNR"] == shared.measures(State())["PSNR"]


# ---------------------------------------------------------------------------------------------------------------------
# The cache


def test_what_was_computed_is_not_computed_again(bench):
    state = State(index=2)
    first = (bench.blurred(state), bench.restored(state, "thesis"), bench.measures(state, "thesis"))
    bench.method("thesis").restorer.restore = None  # any further call would break
    try:
        elsewhere = state.but(view="maps", other=5, wanted="yaw", sort_by="SSIM")  # nothing that changes the picture
        again = (bench.blurred(elsewhere), bench.restored(elsewhere, "thesis"), bench.measures(elsewhere, "thesis"))
        assert all(a is b for a, b in zip(first, again, strict=True))
        assert bench.restored(state.but(kind="drawn", strength=1.0), "thesis") is first[1]  # drawn: strength is unused
    finally:
        del bench.method("thesis").restorer.restore


def test_the_cache_does_not_grow_and_forgets_the_oldest(bench, monkeypatch):
    monkeypatch.setattr(inspector, "KEPT", 20)
    used = State(index=0)
    bench.blurred(used)
    for index in range(1, 60):
        bench.blurred(State(index=index))
        bench.blurred(used)
    assert len(bench._cache) == 20
    kept = bench.blurred(used)
    assert kept is bench.blurred(used)
    assert {key[1][0][1] for key in bench._cache} == {0, *range(41, 60)}


# ---------------------------------------------------------------------------------------------------------------------
# Uploads


@pytest.fixture(scope="module")
def face():
    return load_faces("val", 1)[0]


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_upload(bench, face, kind):
    bench.upload(file_of(face, kind, quality=95))
    state = State("photo", kind="none")
    assert np.abs(bench.sharp(state).astype(int) - face).mean() < 4
    assert bench.restored(state, "thesis").image.shape == (128, 128, 3)
    assert not bench.has_truth(state) and bench.measures(state, "thesis") is None and bench.measures(state) is None
    table = bench.table(state)
    assert table.iloc[:, :5].isna().all(axis=None) and table.loc["thesis's model", "ms"] > 0  # absent, not invented


def test_upload_turned_transparent_grey_and_huge(bench, face):
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held upright: turn by 90 degrees to the right
    bench.upload(file_of(Image.fromarray(np.rot90(face)), "JPEG", exif=exif, quality=95))
    assert np.abs(bench.photo.astype(int) - face).mean() < 6
    clear = np.dstack([face, np.zeros((128, 128), np.uint8)])
    bench.upload(file_of(clear))
    assert (bench.photo == 255).all()
    bench.upload(file_of(face[..., 0]))
    assert bench.photo.shape == (128, 128, 3) and np.array_equal(bench.photo[..., 0], bench.photo[..., 2])
    bench.upload(file_of(np.zeros((3000, 4500, 3), np.uint8), "JPEG"))
    assert bench.photo.shape[1] == inspector.PHOTO_SIDE and bench.photo.shape[0] == pytest.approx(683, abs=2)
    with pytest.raises(ImageError, match="too few"):
        bench.upload(file_of(np.zeros((8, 300, 3), np.uint8)))


BAD = {
    "empty": b"", "text": b"hello", "GIF": file_of(np.zeros((32, 32, 3), np.uint8), "GIF"), "RIFF": b"RIFF1234WAVEfmt ",
    "cut off": file_of(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8))[:3000],
    "PNG in name only": b"\x89PNG\r\n\x1a\n" + bytes(100), "HTML": b"<html><script>alert(1)</script></html>",
}  # fmt: skip


@pytest.mark.parametrize("content", BAD.values(), ids=BAD)
def test_bad_uploads_are_refused_and_the_earlier_photo_stays(bench, face, content):
    bench.upload(file_of(face))
    before = bench.photo
    with pytest.raises(ImageError) as refusal:
        bench.upload(content)
    assert bench.photo is before and len(str(refusal.value)) < 200


def test_square(bench, face):
    """The square is moved into the photograph, the middle is the default, and another square is another picture."""
    bench.upload(file_of(np.concatenate([face, 255 - face], axis=1)))
    assert bench.square(()) == (64, 0, 128) and bench.square((500, -7, 40)) == (216, 0, 40)
    left, right = State("photo", kind="none", crop=(0, 0, 128)), State("photo", kind="none", crop=(128, 0, 128))
    assert np.array_equal(bench.sharp(left), face) and np.array_equal(bench.sharp(right), 255 - face)
    assert not np.array_equal(bench.restored(left, "thesis").image, bench.restored(right, "thesis").image)
    assert bench.sharp(left.but(crop=(10, 10, 50))).shape == (128, 128, 3)


def test_the_next_photo_is_not_taken_for_the_last(bench, face):
    state = State("photo", kind="none")
    bench.upload(file_of(face))
    first = bench.restored(state, "thesis").image
    bench.upload(file_of(255 - face))
    assert not np.array_equal(first, bench.restored(state, "thesis").image)


# ---------------------------------------------------------------------------------------------------------------------
# Slow methods, whole sets


def test_slow_methods_wait_to_be_asked(bench, slow_method):
    state = State(methods=("thesis", slow_method))
    assert bench.restored(state, slow_method) is None
    assert "press" in bench.table(state).loc["the snail", "remark"]
    steps = []
    bench.keep(bench.run_slow(state, slow_method)(lambda *s: steps.append(s) or True))
    assert np.array_equal(bench.restored(state, slow_method).image, 255 - bench.blurred(state).image)
    assert steps[-1] == (200, 200) and bench.table(state).loc["the snail", "PSNR"] > 0
    assert bench.restored(state.but(noise=9), slow_method) is None  # another input: not that answer


def test_cancelled_slow_methods_leave_nothing(bench, slow_method):
    state = State(methods=(slow_method,))
    with pytest.raises(Cancelled):
        bench.run_slow(state, slow_method)(lambda step, steps: step < 5)
    assert bench.restored(state, slow_method) is None


@pytest.fixture
def small_sets(bench, shared):
    shared.pictures("test")
    bench._sets = {"test": load_faces("test", 24)}
    return bench


def test_scores_and_order(small_sets):
    bench, state = small_sets, State(sort_by="SSIM")
    assert bench.order(state) == list(range(24))  # not measured yet: as stored
    bench.scores |= bench.score("test", "thesis")(lambda *s: True)
    table = bench.scores["test", "thesis"]
    assert len(table) == 24 == len(bench.scores["test", "input"])
    assert table.SSIM[5] == pytest.approx(bench.measures(State(index=5), "thesis")["SSIM"], abs=1e-4)
    worst = bench.order(state)
    assert sorted(worst) == list(range(24)) and worst[0] == table.SSIM.idxmin() and worst[-1] == table.SSIM.idxmax()
    assert bench.order(state.but(worst_first=False))[0] == table.SSIM.idxmax()
    assert bench.order(state.but(sort_by="L1"))[0] == table.L1.idxmax()  # lower is better here
    assert bench.order(State()) == list(range(24))


def test_scoring_can_be_cancelled(small_sets):
    with pytest.raises(Cancelled):
        small_sets.score("test", "thesis")(lambda step, steps: False)
    assert small_sets.scores == {}


def test_codes_and_probes(small_sets):
    bench, state = small_sets, State()
    code = bench.code(state)
    assert code.shape == (512,) and not np.allclose(code, bench.code(state, 1))
    assert np.array_equal(bench.decode(state, code[None])[0], bench.restored(state, "thesis").image)
    steps = []
    probes = bench.learn_probes(state, 60)(lambda *s: steps.append(s) or True)
    assert steps[-1] == (90, 90) and set(probes) >= {"age", "yaw", "smile", "melanin"}
    with pytest.raises(Cancelled):
        bench.learn_probes(state, 60)(lambda *s: False)


# ---------------------------------------------------------------------------------------------------------------------
# What is missing


def test_a_missing_checkpoint(bench, absent_method):
    state = State(methods=(absent_method, "thesis"))
    assert "no such checkpoint" in bench.missing(absent_method) and bench.missing("thesis") == ""
    with pytest.raises(CheckpointError):
        bench.restored(state, absent_method)
    assert "no such checkpoint" in bench.table(state).loc["the ghost", "remark"]
    assert bench.scored_method(state) == "thesis" and bench.coder(state) is bench.restorer("thesis")


def test_without_any_weights_the_pictures_are_still_there(bench, monkeypatch):
    bench._methods = {}
    monkeypatch.setattr(inspector, "load_method", lambda *a: (_ for _ in ()).throw(CheckpointError("gone")))
    assert bench.coder(State()) is None and bench.scored_method(State()) == "input"
    assert bench.measures(State())["PSNR"] > 0
    with pytest.raises(CheckpointError):
        bench.code(State())


def test_a_missing_or_damaged_set(bench, monkeypatch, tmp_path):
    bench._sets = {}
    monkeypatch.setenv("COURSE_DATA", str(tmp_path))
    assert "missing" in bench.why_not("test") and "photograph" in bench.why_not("photo") and bench.why_not("folder")
    (tmp_path / "faces").mkdir()
    (tmp_path / "faces" / "val.zip").write_bytes(b"no zip")
    assert "damaged" in bench.why_not("val")


def test_without_the_trunk_lpips_is_named_for_what_it_is(no_trunk):
    bench = Workbench()
    assert "random trunk" in bench.ruler_problem and column(bench.table(State()), "LPIPS") == "LPIPS (random trunk)"


def test_with_a_useless_trunk_lpips_is_absent(monkeypatch, tmp_path):
    monkeypatch.setenv("LPIPS_TRUNK", str(tmp_path / "nothing.pth"))
    bench = Workbench()
    assert bench.ruler is None and "absent" in bench.ruler_problem
    assert "LPIPS" not in bench.measures(State()) and np.isnan(bench.table(State()).loc["input", "LPIPS"])


def test_own_folder(bench, face, tmp_path, monkeypatch):
    with pytest.raises(ImageError):
        bench.open_folder(tmp_path / "nowhere")
    assert "nowhere" in bench.why_not("folder")
    Image.fromarray(face).save(tmp_path / "a.png")
    (tmp_path / "b.jpg").write_bytes(b"broken")
    bench.open_folder(tmp_path)
    state = State("folder")
    assert np.array_equal(bench.sharp(state), face) and bench.has_truth(state) and bench.measures(state)["PSNR"] > 0
    with pytest.raises(ImageError, match="b.jpg"):
        bench.sharp(state.but(index=1))
    monkeypatch.setenv("COURSE_PHOTOS", str(tmp_path))
    assert len(Workbench().pictures("folder")) == 2


def test_the_shipped_files_are_only_read(shared):
    """Looking changes nothing in data/: the archives open and hold what they held."""
    with zipfile.ZipFile(data_folder() / "faces" / "test.zip") as archive:
        assert len(archive.namelist()) == len(shared.pictures("test"))
