"""helpers.inspector.workbench: answers and measures without a widget, every control's effect, the cache, gaps."""

import zipfile

import numpy as np
import pytest
from PIL import Image

from helpers.data import ImageError, data_folder, load_faces
from helpers.engine.checkpoints import CheckpointError
from helpers.inspector import workbench
from helpers.inspector.panes import encode
from helpers.inspector.state import State
from helpers.inspector.workbench import Workbench, column
from helpers.methods import Cancelled, load_method
from helpers.metrics import psnr
from helpers.pairs import Pairs


@pytest.fixture(scope="module")
def shared():
    """One workbench for all that only look."""
    return Workbench()


@pytest.fixture
def bench(shared, monkeypatch):
    """A workbench of one's own; the networks, which nobody changes, are not loaded again."""
    shared.method("thesis")
    monkeypatch.setattr(workbench, "load_lpips", lambda: shared.lpips)
    fresh = Workbench()
    fresh._methods, fresh.sets.loaded = dict(shared._methods), dict(shared.sets.loaded)
    return fresh


def measures(bench, state, *rest):
    return bench.measures(bench.sets.picture(state), *rest)


def restored(bench, state, name="thesis", *rest):
    """A method's answer, a picture."""
    return bench.restored(bench.sets.picture(state), name, *rest).image


def table(bench, state):
    return bench.table(bench.sets.picture(state), state.methods)


# ---------------------------------------------------------------------------------------------------------------------
# What follows from a state


def test_default_state_is_the_test_set_as_chapter_11_measures_it(shared):
    """Same blur, same edges, same answer as Pairs and the method itself."""
    batch = Pairs(load_faces("test", 4)).batch([3])
    state = State(index=3)
    picture = shared.sets.picture(state)
    assert np.array_equal(picture.blurred, batch.blurred[0]) and picture.params == batch.params[0]
    assert np.array_equal(picture.edges, batch.edges[0]) and np.array_equal(picture.sharp, batch.sharp[0])
    own = load_method("thesis").restore(batch.blurred)[0]
    assert np.array_equal(shared.restored(picture, "thesis").image, own)
    assert shared.measures(picture, "thesis")["PSNR"] == pytest.approx(psnr(own, batch.sharp[0]))


CONTROLS = {
    "picture": {"index": 1}, "set": {"source": "val"}, "kind": {"kind": "defocus", "strength": 6.0},
    "strength": {"strength": 3.0}, "noise": {"noise": 20}, "JPEG": {"quality": 10},
}  # fmt: skip


@pytest.mark.parametrize("changes", CONTROLS.values(), ids=CONTROLS)
def test_every_control_changes_input_answer_and_measures(shared, changes):
    state = State(kind="gaussian", strength=6.0)
    moved = state.but(**changes)
    assert not np.array_equal(shared.sets.picture(state).blurred, shared.sets.picture(moved).blurred)
    assert not np.array_equal(restored(shared, state), restored(shared, moved))
    for name in ("input", "thesis"):
        a, b = measures(shared, state, name), measures(shared, moved, name)
        assert a.keys() == b.keys() and all(a[k] != b[k] for k in a), name


def test_more_blur_is_worse_and_the_angle_turns_it(shared):
    at = [measures(shared, State(kind="gaussian", strength=s))["PSNR"] for s in (1.0, 3.0, 6.0, 8.0)]
    assert at == sorted(at, reverse=True)
    flat, steep = (shared.sets.picture(State(kind="motion", strength=15.0, angle=a)) for a in (0.0, 90.0))
    assert not np.array_equal(flat.blurred, steep.blurred) and flat.words == "motion 15 px, at 0°"
    change = (
        np.abs(np.diff(flat.blurred.astype(float), axis=1)).mean()
        / np.abs(np.diff(flat.blurred.astype(float), axis=0)).mean()
    )
    turned = (
        np.abs(np.diff(steep.blurred.astype(float), axis=1)).mean()
        / np.abs(np.diff(steep.blurred.astype(float), axis=0)).mean()
    )
    assert change < turned  # a level shake smears across columns


def test_canny_changes_edges_and_answer_but_not_the_input(shared):
    state = State()
    moved = state.but(low=60, high=120)
    before, after = shared.sets.picture(state), shared.sets.picture(moved)
    assert after.edges.sum() < before.edges.sum() and np.array_equal(before.blurred, after.blurred)
    assert not np.array_equal(restored(shared, state), restored(shared, moved))


def test_edge_channel(shared):
    """Blank is blank, sharp is that of the truth, and the model's answer follows."""
    state = State()
    picture = shared.sets.picture(state)
    assert picture.edge_map("blank").sum() == 0
    sharp = shared.sets.picture(state.but(kind="none")).edges
    assert np.array_equal(picture.edge_map("sharp"), sharp)
    answers = [restored(shared, state, "thesis", kind) for kind in ("blurred", "blank", "sharp")]
    assert not any(np.array_equal(answers[0], other) for other in answers[1:])
    with pytest.raises(ValueError):
        picture.edge_map("golden")


def test_what_a_method_was_not_trained_for_is_said(shared):
    """In the remark of its row; the input's row and its own blur have none."""
    for state, remark in ((State(), ""), (State(kind="none"), "not trained for this")):
        rows = table(shared, state)
        assert (rows.loc["input", "remark"], rows.loc["thesis's model", "remark"]) == ("", remark)
        assert shared.caution(shared.sets.picture(state), "thesis") == remark
        assert shared.caution(shared.sets.picture(state), "blind") == ""


def test_no_degradation_at_all(shared):
    state = State(kind="none")
    picture = shared.sets.picture(state)
    assert np.array_equal(picture.blurred, picture.sharp) and picture.params == {}
    assert shared.measures(picture)["PSNR"] == np.inf and picture.words == "not degraded"


def test_table(shared):
    table = shared.table(shared.sets.picture(State()), ("thesis",))
    assert list(table.index) == ["input", "thesis's model"] and list(table.columns[:4]) == ["PSNR", "SSIM", "L1", "MSE"]
    assert table.loc["thesis's model", "parameters"] == load_method("thesis").parameters
    assert table.loc["thesis's model", "ms"] > 0 and np.isnan(table.loc["input", "ms"])
    assert table.loc["input", "PSNR"] == measures(shared, State())["PSNR"]


# ---------------------------------------------------------------------------------------------------------------------
# The cache


def test_what_was_computed_is_not_computed_again(bench):
    state = State(index=2)

    def look(state):
        picture = bench.sets.picture(state)
        return picture, bench.restored(picture, "thesis"), bench.measures(picture, "thesis")

    first = look(state)
    bench.method("thesis").restorer.restore = None  # any further call would break
    try:
        elsewhere = state.but(view="maps", other=5, wanted="yaw", sort_by="SSIM")  # nothing that changes the picture
        assert all(a is b for a, b in zip(first, look(elsewhere), strict=True))
        assert look(state.but(kind="drawn", strength=1.0))[1] is first[1]  # drawn: strength is unused
    finally:
        del bench.method("thesis").restorer.restore


def test_a_photograph_has_answers_and_no_measures(bench):
    """Each photograph and each square of it has its own answer; measures are absent, not invented."""
    face = load_faces("val", 1)[0]
    state, answers = State("photo", kind="none"), []
    for image in (face, 255 - face, np.concatenate([face, 255 - face], axis=1)):
        bench.sets.upload(encode(image))
        answers.append(restored(bench, state))
    answers.append(restored(bench, state.but(crop=(0, 0, 100))))
    assert all(answer.shape == (128, 128, 3) for answer in answers) and len({a.tobytes() for a in answers}) == 4
    assert measures(bench, state, "thesis") is None and measures(bench, state) is None
    rows = table(bench, state)
    assert rows.iloc[:, :5].isna().all(axis=None) and rows.loc["thesis's model", "ms"] > 0


# ---------------------------------------------------------------------------------------------------------------------
# Slow methods, whole sets


def test_slow_methods_wait_to_be_asked(bench, slow_method):
    state = State(methods=("thesis", slow_method))
    picture = bench.sets.picture(state)
    assert bench.restored(picture, slow_method) is None
    assert "press" in table(bench, state).loc["the snail", "remark"]
    steps = []
    bench.keep(bench.run_slow(picture, slow_method)(lambda *s: steps.append(s) or True))
    assert np.array_equal(bench.restored(picture, slow_method).image, 255 - picture.blurred)
    assert steps[-1] == (200, 200) and table(bench, state).loc["the snail", "PSNR"] > 0
    assert bench.restored(bench.sets.picture(state.but(noise=9)), slow_method) is None  # another input


def test_cancelled_slow_methods_leave_nothing(bench, slow_method):
    picture = bench.sets.picture(State())
    with pytest.raises(Cancelled):
        bench.run_slow(picture, slow_method)(lambda step, steps: step < 5)
    assert bench.restored(picture, slow_method) is None


@pytest.fixture
def small_sets(bench):
    bench.sets.loaded = {"test": load_faces("test", 12)}
    return bench


def test_scores_and_order(small_sets):
    bench, state = small_sets, State(sort_by="SSIM")
    assert bench.order(state) == list(range(12))  # not measured yet: as stored
    bench.scores |= bench.score("test", "thesis")(lambda *s: True)
    table = bench.scores["test", "thesis"]
    assert len(table) == 12 == len(bench.scores["test", "input"])
    assert table.SSIM[5] == pytest.approx(measures(bench, State(index=5), "thesis")["SSIM"], abs=1e-4)
    worst = bench.order(state)
    assert sorted(worst) == list(range(12)) and worst[0] == table.SSIM.idxmin() and worst[-1] == table.SSIM.idxmax()
    assert bench.order(state.but(worst_first=False))[0] == table.SSIM.idxmax()
    assert bench.order(state.but(sort_by="L1"))[0] == table.L1.idxmax()  # lower is better here
    assert bench.order(State()) == list(range(12))


def test_scoring_can_be_cancelled(small_sets):
    with pytest.raises(Cancelled):
        small_sets.score("test", "thesis")(lambda step, steps: False)
    assert small_sets.scores == {}


def test_codes_and_probes(small_sets):
    bench, state = small_sets, State()
    first, second = (bench.code(bench.sets.picture(state.but(index=i)), state.methods) for i in (0, 1))
    assert first.shape == (512,) and not np.allclose(first, second)
    assert np.array_equal(bench.decode(first[None], state.methods)[0], restored(bench, state))
    steps = []
    probes = bench.learn_probes(state.methods, 40)(lambda *s: steps.append(s) or True)
    assert steps[-1] == (60, 60) and set(probes) >= {"age", "yaw", "smile", "melanin"}
    with pytest.raises(Cancelled):
        bench.learn_probes(state.methods, 40)(lambda *s: False)


# ---------------------------------------------------------------------------------------------------------------------
# What is missing


def test_a_missing_checkpoint(bench, absent_method):
    state = State(methods=(absent_method, "thesis"))
    assert "no such checkpoint" in bench.missing(absent_method) and bench.missing("thesis") == ""
    with pytest.raises(CheckpointError):
        restored(bench, state, absent_method)
    assert "no such checkpoint" in table(bench, state).loc["the ghost", "remark"]
    assert bench.scored_method(state.methods) == "thesis" and bench.coder(state.methods) is bench.restorer("thesis")


def test_without_any_weights_the_pictures_are_still_there(bench, monkeypatch):
    bench._methods = {}
    monkeypatch.setattr(workbench, "load_method", lambda *a: (_ for _ in ()).throw(CheckpointError("gone")))
    assert bench.scored_method(("thesis",)) == "input" and measures(bench, State())["PSNR"] > 0
    with pytest.raises(CheckpointError, match="no method with a code"):
        bench.coder(("thesis",))
    with pytest.raises(CheckpointError):
        bench.code(bench.sets.picture(State()), ("thesis",))


def test_without_the_trunk_lpips_is_named_for_what_it_is(no_trunk):
    bench = Workbench()
    assert "random trunk" in bench.lpips_problem
    assert column(table(bench, State()), "LPIPS") == "LPIPS (random trunk)"


def test_with_a_useless_trunk_lpips_is_absent(monkeypatch, tmp_path):
    monkeypatch.setenv("LPIPS_TRUNK", str(tmp_path / "nothing.pth"))
    bench = Workbench()
    assert bench.lpips is None and "absent" in bench.lpips_problem
    assert "LPIPS" not in measures(bench, State()) and np.isnan(table(bench, State()).loc["input", "LPIPS"])


@pytest.fixture
def own_folder(tmp_path):
    """Three photographs, the middle one cut in half."""
    faces = load_faces("val", 3)
    for name, face in zip(("a.png", "b.jpg", "c.png"), faces, strict=True):
        Image.fromarray(face).save(tmp_path / name)
    content = (tmp_path / "b.jpg").read_bytes()
    (tmp_path / "b.jpg").write_bytes(content[: len(content) // 2])
    return tmp_path


@pytest.mark.parametrize("broken", [["b.jpg"], ["a.png", "b.jpg"], ["b.jpg", "c.png"]])
def test_a_folder_with_broken_files_is_measured_without_them(bench, own_folder, broken):
    """One file that cannot be read ends neither the measuring nor the gallery; it comes last, with a grey thumbnail."""
    for name in broken:
        (own_folder / name).write_bytes(b"broken")
    bench.open_folder(own_folder)
    state = State("folder", sort_by="PSNR")
    bench.scores |= bench.score("folder", "thesis")(lambda *s: True)
    lost = [i for i, name in enumerate(("a.png", "b.jpg", "c.png")) if name in broken]
    kept = [i for i in range(3) if i not in lost]
    assert [*bench.scores["folder", "thesis"].index] == kept == [*bench.scores["folder", "input"].index]
    for index in kept:
        same = measures(bench, State("folder", index), "thesis")["PSNR"]
        assert bench.scores["folder", "thesis"].PSNR[index] == pytest.approx(same, abs=1e-4)
    assert bench.order(state)[len(kept) :] == lost and sorted(bench.order(state)) == [0, 1, 2]
    for thumbs in ("sharp", "blurred", "restored"):
        flat = [bench.thumbnail(state.but(thumbs=thumbs), i).std() == 0 for i in range(3)]
        assert flat == [i in lost for i in range(3)]


def test_a_folder_of_broken_files_alone_cannot_be_measured(bench, own_folder):
    for path in own_folder.iterdir():
        path.write_bytes(b"broken")
    bench.open_folder(own_folder)
    with pytest.raises(ImageError, match="no picture of this set can be read"):
        bench.score("folder", "input")(lambda *s: True)


def test_another_folder_is_measured_anew(bench, own_folder):
    bench.sets.loaded["test"] = load_faces("test", 3)
    bench.open_folder(own_folder)
    bench.scores |= bench.score("folder", "input")(lambda *s: True) | bench.score("test", "input")(lambda *s: True)
    bench.open_folder(own_folder)
    assert list(bench.scores) == [("test", "input")]


def test_the_shipped_files_are_only_read(shared):
    """Looking changes nothing in data/: the archives open and hold what they held."""
    with zipfile.ZipFile(data_folder() / "faces" / "test.zip") as archive:
        assert len(archive.namelist()) == len(shared.sets.images("test"))
