"""tests.benchmarks: every part in miniature, and whether what is compared is the same."""

import argparse
import importlib
import io
import json
import math
import os
import subprocess
import sys
import tarfile
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from helpers.losses import TotalLoss
from helpers.pairs import Pairs
from tests.benchmarks import compare, evaluation, folder, gpu_part, gpu_plan, measure, ours, peak, plain, report, shares
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


# ---------------------------------------------------------------------------------------------------------------------
# The plan for a lent GPU


@pytest.fixture
def lent(monkeypatch, tmp_path):
    """RUNS and OUT of a plan, and sets of photographs that are not looked at."""
    environment = {"RUNS": "runs", "OUT": "out", "COURSE_REAL_FACES": "faces", "COURSE_PORTRAITS": "portraits"}
    for name, value in environment.items():
        monkeypatch.setenv(name, str(tmp_path / value))
    for name in ("PARTS", "MOST", "FILES", "TOTAL"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


@pytest.mark.parametrize("dry", [False, True])
def test_each_training_of_the_plan_takes_its_options(lent, dry, monkeypatch):
    """Options are parsed by the command itself, for the plan and for its rehearsal."""
    parse, parsed = argparse.ArgumentParser.parse_args, []

    def only_parse(parser, argv):
        parsed.append(parse(parser, argv))
        raise SystemExit

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", only_parse)
    trained = [part for part in gpu_plan.plan() if part.steps]
    for part in trained:
        one = gpu_plan.miniature(part) if dry else part
        main = importlib.import_module(one.command[0]).main
        gpu_part.call(main, gpu_part.options_of(one, one.steps, lent / "run"))
        assert parsed[-1].out == str(lent / "run") and (parsed[-1].limit == 4) == dry
        for option, count in one.steps.items():
            assert getattr(parsed[-1], option[2:].replace("-", "_")) == count
    assert len(parsed) == len(trained) == 9 and parsed[0].halve_every == (1 if dry else 2)


def test_what_cannot_be_run_is_left_out(lent, monkeypatch):
    parts = {part.name: part for part in gpu_plan.plan()}
    assert "no checkpoint" in gpu_plan.possible(parts["thesis-photographs"])
    assert gpu_plan.possible(parts["skip-blind"]) == gpu_plan.possible(parts["thesis-faces"]) == ""
    monkeypatch.delenv("COURSE_PORTRAITS")
    assert "no portraits" in gpu_plan.possible(parts["skip-blind"])
    monkeypatch.delenv("COURSE_REAL_FACES")
    assert "thesis-photographs" not in [part.name for part in gpu_plan.plan()]


def test_a_tree_that_lacks_files_is_refused_before_anything_runs(lent, monkeypatch):
    """Measures need the identity network, and a part that goes on needs its start."""
    parts = gpu_plan.plan()
    assert gpu_plan.lacking(parts) == []
    monkeypatch.setattr(gpu_plan, "ROOT", lent)
    names = gpu_plan.lacking(parts)
    assert {"data/checkpoints/identity.safetensors", "data/checkpoints/blind.safetensors"} < set(names)
    with pytest.raises(SystemExit, match=r"not here: data/checkpoints/blind\.safetensors, .*train\.zip"):
        gpu_plan.main(["--dry-run"])


def test_steps_that_fit(lent, monkeypatch):
    """A start of 5 s and 0.1 s a step: after both probes 78 s are left of 100, 0.9 of them without another start."""
    now, probes = [0.0], []

    def training(argv):
        probes.append([int(argv[argv.index(option) + 1]) for option in ("--mean-steps", "--flow-steps")])
        now[0] += 5 + 0.1 * sum(probes[-1])

    monkeypatch.setattr(gpu_part.time, "monotonic", lambda: now[0])
    part = next(part for part in gpu_plan.plan() if part.name == "pmrf")
    found = gpu_part.steps_that_fit(part, training, 100.0, lent)
    assert probes == [[7, 17], [28, 68]]
    steps = (0.9 * (100 - 7.4 - 14.6) - 7.4) / 0.1
    assert sum(found.values()) == pytest.approx(steps, abs=1)
    assert found["--flow-steps"] == pytest.approx(2.4 * found["--mean-steps"], abs=3)
    assert gpu_part.steps_that_fit(part, training, 1e9, lent) == part.steps


def test_epochs_that_fit(lent):
    """60 pictures 20 times at 100 a second and 5 s to end an epoch: 17 s each; two in 70 s, of which 0.95 less 25."""
    part = next(part for part in gpu_plan.plan() if part.name == "thesis-faces")
    gpu_plan.write_record(lent / "runs", part, {"speed": 100.0})
    short = replace(part, command=(*part.command, "--limit", "60"))
    assert gpu_part.epochs_that_fit(short, None, 70.0, lent) == {"--epochs": 2}
    assert gpu_part.epochs_that_fit(short, None, 1000.0, lent) == part.steps
    assert gpu_part.epochs_that_fit(short, None, 1.0, lent) == {"--epochs": 1}


class Sleeping(gpu_plan.Plan):
    """Parts that sleep; SIGTERM lets them leave a file, unless they are called deaf."""

    def begin(self, part, seconds):
        saves = "" if part.name == "deaf" else f"echo {part.name} > {self.results}/{part.name}.safetensors; exit 0"
        return subprocess.Popen(["bash", "-c", f"trap '{saves}' TERM; {part.leaves}"])


def test_parts_side_by_side_end_in_time(lent, monkeypatch, capsys):
    """One ends by itself, one is told, one does not listen, one fails; each result is copied, the table tells."""
    monkeypatch.setattr(gpu_plan, "RESERVE", 1)
    monkeypatch.setattr(gpu_plan, "PATIENCE", 1)
    hold = "while true; do sleep 0.05; done"
    works = {"quick": "true", "slow": hold, "deaf": hold, "broken": "exit 3"}
    parts = [gpu_plan.Part(5, name, 1, (), do, {"--steps": 1}, "", True) for name, do in works.items()]
    plan = Sleeping([*parts, gpu_plan.Part(8, "last", 1, (), "true")], 4, dry=False)
    for name in ("broken", "deaf"):
        (plan.logs / f"{name}.log").write_text("why\n", encoding="utf-8")
    assert [len(group) for group in plan.groups()] == [4, 1]
    assert not plan.run() and plan.left > -120  # not 4 s sharp: a busy machine may stand still; "deaf" alone never ends
    states = {part.name: plan.of(part).get("state") for part in plan.parts}
    assert "failed with 3" in states["broken"] and "failed with -9" in states["deaf"] and states["last"] == "done"
    assert (plan.out / "slow.safetensors").read_text(encoding="utf-8") == "slow\n" and "why" in capsys.readouterr().out
    assert "| 5 broken |" in (plan.out / "table.md").read_text(encoding="utf-8")


def test_results_as_pieces_of_one_tar(tmp_path):
    """Within the limits; what is small first, photographs last; joined again they are what they were."""
    results, out = tmp_path / "results", tmp_path / "out"
    results.mkdir()
    rng = np.random.default_rng(1)
    for age, (name, size) in enumerate({"thesis-photographs.safetensors": 40_000, "a.safetensors": 50_000,
                                        "b.safetensors": 30_000, "a.json": 300}.items()):  # fmt: skip
        (results / name).write_bytes(rng.bytes(size))
        os.utime(results / name, (age, age))
    found = list(results.iterdir())
    gpu_plan.deliver(found, out)
    assert sorted(p.name for p in out.iterdir()) == sorted(p.name for p in found)
    for limits, left in (({"most": 32_768}, []), ({"most": 32_768, "files": 4}, ["thesis-photographs.safetensors"]),
                         ({"total": 75_000}, ["b.safetensors", "thesis-photographs.safetensors"])):  # fmt: skip
        packed = tmp_path / "packed"
        gpu_plan.deliver(found, packed, **limits)
        files = sorted(packed.iterdir())
        assert len(files) <= limits.get("files", 99) and sum(p.stat().st_size for p in files) <= limits.get(
            "total", 1e9
        )
        assert max(p.stat().st_size for p in files) <= limits.get("most", 1e9)
        told = (packed / "JOIN.txt").read_text(encoding="utf-8")
        assert [line.removeprefix("left out: ") for line in told.splitlines()[1:]] == left
        with tarfile.open(fileobj=io.BytesIO(b"".join(p.read_bytes() for p in files if p.suffix != ".txt"))) as archive:
            names = archive.getnames()
            assert all(archive.extractfile(n).read() == (results / n).read_bytes() for n in names)
        assert names[0] == "a.json" and sorted([*names, *left]) == sorted(p.name for p in out.iterdir())


def test_limits_in_words():
    assert [gpu_plan.bytes_of(text) for text in ("16M", "1.5k", "7", "", None)] == [2**24, 1536, 7, None, None]
