"""helpers.evaluation: the table of a checkpoint in a shell."""

import numpy as np
import pytest

from helpers import evaluation
from helpers.data import load_faces
from helpers.metrics import measure


def test_command_line(monkeypatch, capsys, random_lpips):
    """The table of the shipped model in a shell, on a few shipped faces: input, restored, thesis."""
    monkeypatch.setattr(evaluation, "load_lpips", lambda device: random_lpips.to(device))
    evaluation.main(["--limit", "3"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("3 test images")
    assert [line.split("|")[1].strip() for line in lines[1:]] == ["", "---", "input", "restored", "thesis, Table 1"]
    assert len({line.count("|") for line in lines[1:]}) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["--checkpoint", "absent.safetensors"], "no such checkpoint"), (["--data", "absent"], "no such folder")],
)
def test_command_line_errors_are_one_line(arguments, message, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match=f"error: .*{message}") as error:
        evaluation.main(arguments)
    assert "\n" not in str(error.value)


def test_infinities_are_told_below_the_table(monkeypatch, capsys, random_lpips):
    """The table keeps its columns; the line below it says what was left out."""
    sharp = np.stack(list(load_faces("test", 3)))
    tables = {"input": measure(255 - sharp, sharp, random_lpips), "restored": measure(sharp, sharp, random_lpips)}
    monkeypatch.setattr(evaluation, "evaluate", lambda *arguments, **options: tables)
    monkeypatch.setattr(evaluation, "load_lpips", lambda device: random_lpips)
    evaluation.main(["--limit", "3"])
    lines = capsys.readouterr().out.splitlines()
    assert len({line.count("|") for line in lines[1:6]}) == 1
    assert lines[6:] == ["restored: 3 images equal to the sharp ones, left out of the mean of PSNR"]
