"""tests.benchmarks: every part in miniature, and whether what is compared is the same."""

import json
import math
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from helpers.losses import TotalLoss
from helpers.pairs import Pairs
from tests.benchmarks import compare, evaluation, folder, measure, ours, peak, plain, report, shares
from tests.benchmarks.__main__ import PARTS, main, run
from tests.benchmarks.training import write_files
from tests.conftest import ROOT

CPU = torch.device("cpu")
QUICK = measure.Setup.quick(CPU)


@pytest.fixture(scope="module")
def results() -> dict:
    """What each part measured, filled as the tests ask for it."""
    return {}


def result(part: str, results: dict) -> dict:
    if part not in results:
        results[part] = run(part, QUICK)
    return results[part]


# ---------------------------------------------------------------------------------------------------------------------
# Every part


@pytest.mark.parametrize("part", PARTS)
def test_part(part, results):
    """Machine, versions, date; rows of positive, finite figures; one line of the table for each."""
    found = result(part, results)
    assert found["hardware"]["cpu"] and found["hardware"]["threads"] >= 1 and found["versions"]["torch"]
    assert found["note"] and found["rows"] and found["date"].count("-") == 2
    assert json.loads(json.dumps(found)) == found
    for row in found["rows"]:
        figures = [v for k, v in row.items() if isinstance(v, int | float) and k != "last loss against plain"]
        assert figures and all(math.isfinite(v) and v >= 0 for v in figures), row
        for name in ("images/s", "ms", "s", "GFLOP/s", "peak memory (MB)"):
            assert row.get(name) is None or row[name] > 0, row
        if row.get("images/s"):
            assert row.get("lowest", row["images/s"]) <= row["images/s"] <= row.get("highest", row["images/s"])
    text = report.section(part, found)
    table = [line for line in text.splitlines() if line.startswith("|")]
    assert len(table) == len(found["rows"]) + 2
    assert len({line.count(" | ") for line in table if line.startswith("| ")}) == 1


def test_both_loops_start_and_end_alike(results):
    rows = {row["loop"]: row for row in result("training", results)["rows"]}
    losses = results["training"]["losses"][str(QUICK.batch)]
    assert rows["plain"]["first loss"] == pytest.approx(rows["ours"]["first loss"], rel=0.02)
    assert abs(rows["ours"]["last loss against plain"]) < 0.05  # five steps of 16 bits; 2 % is asked of a real run
    assert len(losses["plain"]) == len(losses["ours"]) == 1 + QUICK.segments * QUICK.turns[QUICK.batch]


def test_ladder_begins_with_plain_and_ends_with_the_engine(results):
    rows = result("ladder", results)["rows"]
    assert [rows[0]["switched on"], rows[-1]["switched on"]] == ["plain", "helpers.training"]
    gains = math.prod(row["gain of this step"] for row in rows[1:])
    assert rows[-1]["times plain"] == pytest.approx(gains)


def test_shares_add_up(results):
    rows = {row["what"]: row for row in result("shares", results)["rows"]}
    pieces = [row["share of the step"] for name, row in rows.items() if name not in ("all pieces",) and len(row) > 2]
    assert sum(pieces) == pytest.approx(1, abs=0.35)  # medians of pieces are not the pieces of the median step
    assert rows["deblur_encoder"]["both (ms)"] > rows["loss tv"]["both (ms)"]


def test_trace_is_small_and_inside_its_time(results):
    found = result("trace", results)
    spans = found["intervals"]
    assert len(json.dumps(spans)) < 200_000
    names = {name for name, *_ in spans}
    assert {"step", "wait for the batch", "backward", "Adam", "make a batch", "Canny", "blur"} <= names
    assert any(thread.startswith("loader") for *_, thread in spans)
    steps = [(start, start + length) for name, start, length, _ in spans if name == "step"]
    assert len(steps) == 3 and all(a[1] <= b[0] for a, b in zip(steps, steps[1:], strict=False))
    assert found["operations"]


def test_layers_are_those_of_the_networks(results):
    """21 convolutions and linear layers of the encoder, 5 of the generator at 64 px, 5 of the latent encoder."""
    found = result("layers", results)
    assert sum(row["times"] for row in found["rows"]) == 21 + 5 + 5
    for row in found["rows"]:
        assert (row["bound by"] == "memory") == (row["FLOP/byte"] <= found["peak"] / found["bandwidth"])


# ---------------------------------------------------------------------------------------------------------------------
# Is the same compared?


def test_plain_pictures_are_ours(faces, tmp_path):
    """The plain loop's batch is the engine's: same order, mirror and blur, which OpenCV rounds a little otherwise."""
    files = write_files(faces, tmp_path)
    epoch, indices = next(plain.order(len(faces), 4))
    inputs, target = plain.prepare(files, indices, epoch)
    theirs = Pairs(faces, flip=True).batch(indices.tolist(), epoch)
    assert torch.allclose(target, theirs.target, atol=1e-6)
    assert (inputs - theirs.input)[:, :3].abs().max() <= 2.01 / 127.5
    assert (inputs[:, 3] != theirs.input[:, 3]).float().mean() < 0.02


def test_plain_loss_is_ours(faces, random_lpips, tmp_path):
    """Equation 41 written out in the plain loop gives what helpers.losses gives."""
    from tests.benchmarks.measure import untrained

    files = write_files(faces, tmp_path)
    first = next(plain.plain_loop(files, untrained(QUICK), random_lpips, 4, CPU))
    epoch, indices = next(plain.order(len(faces), 4))
    inputs, target = plain.prepare(files, indices, epoch)
    with torch.no_grad():
        restored, z_deblur, z_gt = untrained(QUICK).train()(inputs, target)
        expected = TotalLoss(random_lpips)(restored, target, z_deblur, z_gt)["total"]
    assert first == pytest.approx(expected.item(), rel=1e-5)


def test_plain_evaluation_measures_the_same(results):
    plain_row, our_row = result("evaluation", results)["rows"][:2]
    assert plain_row["PSNR (dB)"] == pytest.approx(our_row["PSNR (dB)"], abs=0.05)


def test_plain_restoration_is_ours(faces):
    restorer = measure.restorer(QUICK)
    blurred = Pairs(faces).batch([0]).blurred[0]
    difference = np.abs(evaluation.plain_restore(restorer.model, blurred, CPU).astype(int) - restorer.restore(blurred))
    assert difference.max() <= 1


def test_pieces_have_the_gradients_of_the_whole(faces, random_lpips):
    """A step that is cut at the networks' borders gives the gradients of one that is not."""
    whole = ours.Ours(QUICK, 4, faces, random_lpips, precision="no")
    cut = ours.Ours(QUICK, 4, faces, random_lpips, precision="no")
    batch = whole.batch()
    whole.forward_backward(*batch)
    times = shares.Pieces(cut).step(*batch, update=False)
    assert len(times) == 2 * 3 + 2 * 5
    for (name, a), b in zip(whole.model.named_parameters(), cut.model.parameters(), strict=True):
        assert torch.allclose(a.grad, b.grad, rtol=1e-3, atol=1e-6 + 1e-4 * a.grad.abs().max().item()), name


def test_flops_by_hand():
    """A convolution of 3×3 from 4 to 8 maps: 2·9·4·8 operations a pixel forward, and as many for each gradient."""
    layer = torch.nn.Conv2d(4, 8, 3, padding=1, bias=False)
    row = peak.layer_row(layer, torch.Size((2, 4, 16, 16)), torch.float32, QUICK, 1e9, 1e9)
    forward = 2 * 9 * 4 * 8 * 2 * 16 * 16
    assert row["GFLOP"] == pytest.approx(2 * forward / 1e9)  # an image of 3 or 4 channels needs no gradient
    x, w, y = 2 * 4 * 256, 9 * 4 * 8, 2 * 8 * 256
    assert row["MB"] == pytest.approx(4 * (2 * x + 2 * w + 2 * y) / 1e6)
    assert row["share of the roof"] == pytest.approx(1e9 * row["GFLOP/s"] / min(1e9, 1e9 * row["FLOP/byte"]))


# ---------------------------------------------------------------------------------------------------------------------
# Tools


def test_turns_alternate():
    seen = []
    times = measure.take_turns({"a": lambda: seen.append("a"), "b": lambda: seen.append("b")}, 3, CPU)
    assert seen == list("ababab") and {len(t) for t in times.values()} == {3}
    assert measure.spread([3.0, 1.0, 2.0]) == {"median": 2.0, "lowest": 1.0, "highest": 3.0}
    assert measure.rates(8, [1.0, 2.0, 4.0]) == {"images/s": 4.0, "lowest": 2.0, "highest": 8.0}


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, ""), (0.0, "0.000"), (0.1234, "0.123"), (1.2345, "1.23"), (12.345, "12.3"), (1234.5, "1,234"), (7, "7"),
     (0.00012, "1.2e-04"), (True, "yes"), ("x", "x")],
)  # fmt: skip
def test_cells(value, text):
    assert report.cell(value) == text


def test_merging_keeps_the_other_parts(tmp_path):
    facts = {"hardware": measure.hardware(CPU), "versions": {}, "date": "2026-01-01", "seconds": 1.0, "note": "n"}
    path = tmp_path / "deep" / "b.json"
    report.merge(path, "one", {**facts, "rows": [{"a": 1}]})
    report.merge(path, "two", {**facts, "rows": [{"a": 2}, {"b": 3.0}]})
    report.merge(path, "one", {**facts, "rows": [{"a": 4}]})
    content = json.loads(path.read_text(encoding="utf-8"))
    assert list(content) == ["one", "two"] and content["one"]["rows"] == [{"a": 4}]
    text = path.with_suffix(".md").read_text(encoding="utf-8")
    assert "| 4 |" in text and "| a | b |" in text and "|  | 3.00 |" in text


def test_a_gpus_kernels_become_intervals():
    """The device's row of the picture, from made-up events: kernels with a gap of 10 µs are one interval."""

    def event(name, start, end, device="DeviceType.CPU", thread=1):
        span = SimpleNamespace(start=start, end=end, elapsed_us=lambda: end - start)
        return SimpleNamespace(name=name, time_range=span, device_type=device, thread=thread)

    events = [
        event("> step", 1000, 9000), event("> make a batch", 0, 500, thread=7), event("aten::conv2d", 1000, 2000),
        event("kernel", 2000, 3000, "DeviceType.CUDA"), event("kernel", 3010, 4000, "DeviceType.CUDA"),
        event("kernel", 6000, 7000, "DeviceType.CUDA"), event("> step", 2000, 7000, "DeviceType.CUDA"),
    ]  # fmt: skip
    assert shares.intervals(events) == [
        ["make a batch", 0, 0.5, "loader 1"], ["step", 1, 8, "training"], ["busy", 2, 2, "GPU"], ["busy", 6, 1, "GPU"],
    ]  # fmt: skip


def test_the_folder_has_so_many_files(tmp_path):
    folder.make_folder(tmp_path, 30, 4)
    files = sorted((tmp_path / "train").iterdir())
    assert len(files) == 30 and len({f.read_bytes() for f in files}) == 4


def test_a_full_disk_is_said_at_once(monkeypatch):
    monkeypatch.setattr(folder.shutil, "disk_usage", lambda where: SimpleNamespace(free=1000))
    with pytest.raises(SystemExit, match="must be free"):
        folder.folder(QUICK)


def test_comparing_with_the_shipped_checkpoint(capsys, tmp_path, monkeypatch, random_lpips):
    """The shipped checkpoint is not better than itself."""
    from helpers.engine.checkpoints import shipped

    monkeypatch.setattr(compare, "load_lpips", lambda device: random_lpips)
    compare.main([str(shipped("thesis")), "--limit", "2", "--out", str(tmp_path / "c.json")])
    found = json.loads((tmp_path / "c.json").read_text(encoding="utf-8"))
    assert found["better"] is False and found["better in"] == [] and "is not better" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="no such checkpoint"):
        compare.main([str(tmp_path / "absent.safetensors"), "--limit", "2"])


@pytest.mark.parametrize(
    ("arguments", "words"), [(["speed"], "there is no part speed"), (["--quick", "--record"], "mean nothing")]
)
def test_command_line_refuses(arguments, words, capsys):
    with pytest.raises(SystemExit):
        main(arguments)
    assert words in capsys.readouterr().err


def test_command_line_writes(tmp_path, capsys):
    main(["pipeline", "--quick", "--device", "cpu", "--out", str(tmp_path / "b.json")])
    assert (
        list(json.loads((tmp_path / "b.json").read_text(encoding="utf-8"))) == ["pipeline"]
        and "## pipeline" in capsys.readouterr().out
    )


def test_on_gpu_says_that_there_is_none(tmp_path):
    """The script is sound shell, and without CUDA it ends at once with one sentence."""
    script = ROOT / "tests" / "benchmarks" / "on_gpu.sh"
    assert subprocess.run(["bash", "-n", script]).returncode == 0
    environment = {"PATH": "/usr/bin:/bin", "PYTHON": sys.executable, "CUDA_VISIBLE_DEVICES": "", "OUT": str(tmp_path)}
    done = subprocess.run(["bash", script], capture_output=True, text=True, env=environment)
    assert done.returncode == 3 and "no CUDA device" in done.stderr and not list(tmp_path.iterdir())
