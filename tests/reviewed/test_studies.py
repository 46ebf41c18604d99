"""helpers.reviewed.studies: each study by hand on small networks, its command, and the recorded files."""

import json

import numpy as np
import pytest
import torch

from helpers.data import denormalise
from helpers.engine.checkpoints import read_about, save_checkpoint, shipped
from helpers.metrics import measure
from helpers.pairs import Pairs
from helpers.realism import sliced_wasserstein
from helpers.reviewed import studies
from helpers.reviewed.approximations import from_params
from helpers.reviewed.diffir import CPEN, DiffIRS1, DiffIRS2, DiffIRStages
from helpers.reviewed.diffir_training import CPEN_INITS, kaiming_init
from helpers.reviewed.inversion import PHASES, MultiResolutionLoss, invert
from helpers.reviewed.pmrf import Pmrf
from helpers.reviewed.studies import between, exchanges, layers, main, shipped_study, spaces, starts, step_rows
from tests.conftest import make_faces
from tests.reviewed.test_stylegan import randomised

TINY = {"dim": 8, "num_blocks": (1, 1, 1, 1), "num_refinement_blocks": 1, "heads": (1, 1, 1, 1), "n_encoder_res": 1}


def test_spaces_by_hand(random_lpips):
    """Each face is searched by itself; W alone takes the steps of all phases; blurred faces have no loss."""
    faces, generator, steps = make_faces(2, 32), randomised(img_resolution=32), 2
    found = spaces(generator, faces, make_faces(3, 32, seed=1), random_lpips, steps, at_once=1, progress=False)
    rows, metric = found["rows"], random_lpips.name
    assert list(rows) == ["blurred input", "W", "W+", "W++", "W alone"] and found["steps"] == steps
    batch = Pairs(faces).batch([0, 1])
    target = torch.from_numpy(batch.blurred).movedim(-1, 1).float() / 255
    lengths = {space: length * 75 for space, length in PHASES.items()}
    loss, f_hat = MultiResolutionLoss(random_lpips), from_params(batch.params[1:])
    by_hand = invert(generator, target[1:], f_hat, loss, steps, lengths).images
    for space in PHASES:
        restored = (by_hand[space] * 255).round().to(torch.uint8).movedim(1, -1).numpy()
        wanted = measure(restored, faces[1:], random_lpips)
        assert rows[space]["PSNR"][1] == pytest.approx(wanted["PSNR"][0], abs=0.01)
        assert rows[space][metric][1] == pytest.approx(wanted[metric][0], abs=1e-3)
        assert rows[space]["loss"][1] == pytest.approx(loss(f_hat(by_hand[space]), target[1:]).item(), rel=1e-3)
    assert rows["blurred input"]["loss"] == [0, 0] and found["floor"] > 0
    assert rows["W alone"]["loss"][1] != pytest.approx(rows["W"]["loss"][1], rel=1e-6)


def test_between():
    """0 where all faces have one prior, 1 where the entries of a prior are alike."""
    own = torch.arange(50.0)[:, None].expand(-1, 256)
    assert between(torch.randn(256).expand(50, -1)) == 0 and between(own) == pytest.approx(1, abs=0.03)


@pytest.fixture(scope="module")
def stages() -> DiffIRStages:
    torch.manual_seed(0)
    made = DiffIRStages(DiffIRS1(**TINY), DiffIRS2(**TINY)).eval()
    for cpen in (made.stage1.E, made.stage2.condition):
        kaiming_init(cpen)
    return made


def test_exchanges(stages):
    """A prior that is the same for all can be exchanged without a difference, another one cannot; 0 is no prior."""
    faces = make_faces(3, 32)
    found = exchanges(stages, faces)
    psnr = found["PSNR"]
    assert all(len(values) == 3 for values in psnr.values()) and found["between"]["Z"] > 1e-3
    assert psnr["S1: Z from the truth"] != psnr["S1: Z of another face"]
    with torch.no_grad():
        for network in (stages.stage1.E, stages.stage2.denoise):
            last = [m for m in network.modules() if isinstance(m, torch.nn.Linear)][-1]
            last.weight.zero_(), last.bias.copy_(torch.linspace(0.1, 1, 256))
    found = exchanges(stages, faces)
    psnr = found["PSNR"]
    assert found["between"]["Z"] == pytest.approx(0, abs=1e-6)
    assert psnr["S1: Z from the truth"] == pytest.approx(psnr["S1: Z of another face"])
    same = [psnr[f"S2: {name}"] for name in ("Ẑ by diffusion", "mean of all Ẑ", "Ẑ of another face")]
    assert np.allclose(same, same[0]) and not np.allclose(same[0], psnr["S2: zero"])


def test_layers_of_both_starts():
    """As many values as layers; equal pictures do not differ; PyTorch's start loses what differs."""
    torch.manual_seed(0)
    cpen, pictures = CPEN(n_encoder_res=1, with_truth=True), torch.rand(4, 3, 32, 32)
    own = layers(cpen, pictures, pictures)
    assert len(own) == 8 and layers(cpen, *[pictures[:1].expand(4, -1, -1, -1)] * 2)[-1] == pytest.approx(0, abs=1e-5)
    kaiming_init(cpen)
    assert layers(cpen, pictures, pictures)[-1] > 3 * own[-1]


def test_starts(tmp_path, monkeypatch):
    """A row before training and one every few steps, for each start; faces differ more with Kaiming's."""
    monkeypatch.setattr(studies, "SMALL", TINY)
    told = []
    rows = starts(make_faces(4, 128), make_faces(3, 128, 1), tmp_path, 2, 1, 2, tell=lambda *what: told.append(what))
    assert list(rows) == list(CPEN_INITS) and all([r["step"] for r in part] == [0, 1, 2] for part in rows.values())
    assert len(told) == 4 and rows["kaiming"][0]["spread"] > 10 * rows["pytorch"][0]["spread"]
    assert all(row["own"] > 0 and row["other"] > 0 for part in rows.values() for row in part)


def pmrf_of(kind: str = "pmrf") -> Pmrf:
    """A small one whose last layers are not 0, so that K matters."""
    torch.manual_seed(0)
    model = Pmrf(8, kind)
    torch.nn.init.normal_(model.field.exit[-1].weight, std=0.05)
    return model.eval()


def test_step_rows_by_hand(random_lpips):
    """Equations 16 and 17 for each K from one noise, in parts of two faces."""
    model, faces, others = pmrf_of(), make_faces(3, 32), make_faces(6, 32)[3:]
    rows = step_rows(model, faces, others, random_lpips, sigma=0.05, steps=(1, 3), at_once=2)
    y = torch.from_numpy(Pairs(faces).batch(range(3)).blurred).movedim(-1, 1) / 255
    noise = torch.randn(y.shape, generator=torch.Generator().manual_seed(2025))
    assert list(rows) == ["blurred input", "posterior mean", "K = 1", "K = 3"]
    for K in (1, 3):
        restored = denormalise(2 * model.restore(y, K, 0.05, noise) - 1)
        row = rows[f"K = {K}"]
        assert row["PSNR"] == pytest.approx(measure(restored, faces)["PSNR"].mean(), abs=0.01)
        assert row["SWD"] == pytest.approx(sliced_wasserstein(restored, others)["mean"], rel=0.01)
    assert rows["K = 1"]["PSNR"] != pytest.approx(rows["K = 3"]["PSNR"], abs=0.01)
    assert rows["posterior mean"]["PSNR"] == pytest.approx(rows["blurred input"]["PSNR"])  # untrained: f(y) = y


def test_a_rival_has_no_posterior_mean(random_lpips):
    rows = step_rows(pmrf_of("from_noise"), make_faces(2, 32), make_faces(6, 32)[3:5], random_lpips, steps=(1,))
    assert list(rows) == ["blurred input", "K = 1"]


def test_the_command(tmp_path, monkeypatch, capsys):
    """What is measured is handed on, and written with the steps of the weights; a study that is none is refused."""
    monkeypatch.setattr(studies, "load_faces", lambda split, limit: make_faces(limit, 16))
    monkeypatch.setattr(studies, "exchanges", lambda stages, faces: {"PSNR": {"S1": [len(faces)]}})
    monkeypatch.setattr(studies, "starts", lambda images, held_out, out, steps: {"pytorch": [{"step": steps}]})
    main(["prior", "--faces", "2", "--steps", "3", "--out", str(tmp_path / "prior.json")])
    found = json.loads((tmp_path / "prior.json").read_text(encoding="utf-8"))
    assert found["PSNR"] == {"S1": [2]} and found["starts"] == {"pytorch": [{"step": 3}]}
    assert set(found["weights"]) >= {"stage1_steps", "warm_steps", "joint_steps"} and "hardware" in found
    with pytest.raises(SystemExit):
        main(["other"])
    assert "invalid choice" in capsys.readouterr().err


def test_the_command_measures_rivals(tmp_path, monkeypatch, random_lpips):
    """Each checkpoint is measured with the σ_s and of the kind that its JSON tells."""
    seen = []

    def rows(model, sharp, reference, lpips, sigma):
        seen.append((model.kind, sigma, len(sharp), np.array_equal(sharp, reference)))
        return {"K = 1": {"PSNR": 20.0}}

    monkeypatch.setattr(studies, "step_rows", rows)
    monkeypatch.setattr(studies, "load_lpips", lambda **_: random_lpips)
    save_checkpoint(tmp_path / "y.safetensors", pmrf_of("from_y"), {"kind": "from_y", "width": 8, "sigma_s": 0.03})
    out = tmp_path / "steps.json"
    main(["steps", "--weights", "shipped", str(tmp_path / "y.safetensors"), "--faces", "2", "--out", str(out)])
    assert [kind for kind, *_ in seen] == ["pmrf", "from_y"] and seen[1] == ("from_y", 0.03, 2, False)
    result = json.loads(out.read_text(encoding="utf-8"))
    assert result["from_y"]["rows"] == {"K = 1": {"PSNR": 20.0}} and result["faces"] == 2 and result["floor"] > 0
    with pytest.raises(SystemExit, match="error: "):
        main(["steps", "--weights", str(tmp_path / "none.safetensors"), "--faces", "2", "--out", str(out)])


def test_recorded_studies_hold_a_value_for_each_face():
    """What the chapters read."""
    rows, prior = shipped_study("spaces")["rows"], shipped_study("prior")
    assert {len(row[key]) for row in rows.values() for key in ("loss", "PSNR", "LPIPS")} == {50}
    assert len({len(values) for values in prior["PSNR"].values()}) == 1 and set(prior["starts"]) == set(CPEN_INITS)


def test_recorded_steps_fit_the_shipped_weights():
    """Recorded with the weights that ship: the σ_s and the steps of their JSON."""
    about, study = read_about(shipped("pmrf")), shipped_study("steps")
    recorded = study["pmrf"]
    assert (recorded["sigma_s"], recorded["flow_steps"]) == (about["sigma_s"], about["flow_steps"])
    rows = recorded["rows"]
    assert rows["blurred input"]["PSNR"] < rows["K = 25"]["PSNR"] < rows["posterior mean"]["PSNR"]  # D(P) falls with P
    assert study["floor"] < rows["posterior mean"]["SWD"] < rows["blurred input"]["SWD"]
