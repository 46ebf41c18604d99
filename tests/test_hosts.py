"""One click: the first cell on imitated hosts, the files for Binder and Codespaces, the workflows.

A host is imitated by what the cell can see of it: the module ``google.colab`` or Kaggle's variable, a pip that writes
down what it is asked for, and a local git repository as the course's address.
"""

import importlib.util
import json
import os
import re
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import nbformat
import pytest
import yaml

from notebooks.book import BookError, first_cell, host, settings
from tests.conftest import ROOT

WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
COLAB = "class output:\n    @staticmethod\n    def enable_custom_widget_manager():\n        print('widgets enabled')\n"
PIP = """
import json, pathlib, sys
folder = pathlib.Path(__file__).parent.parent
limits = sys.argv[sys.argv.index("-c") + 1]
(folder / "asked.json").write_text(json.dumps([sys.argv[1:], open(limits, encoding="utf-8").read()]))
raise SystemExit((folder / "pip_fails").exists())
"""
AFTER = """
import helpers, os, pathlib, sys
print("helpers", pathlib.Path(helpers.__file__).parent.parent.resolve() == pathlib.Path("..").resolve())
print("folder", pathlib.Path().resolve().name, "torch" in sys.modules)
"""


def git(folder: Path, *arguments: str) -> None:
    who = {f"GIT_{role}_{what}": "x@example.org" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    subprocess.run(["git", *arguments], cwd=folder, check=True, capture_output=True, env=os.environ | who)


@pytest.fixture(scope="module")
def repository(tmp_path_factory) -> str:
    """The address of a small copy of the course, with the tag v1 and a commit after it."""
    folder = tmp_path_factory.mktemp("origin")
    for name in ("notebooks/book/__init__.py", "notebooks/book/host.py", "helpers/__init__.py", "pyproject.toml"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        text = (ROOT / name).read_text(encoding="utf-8")
        text = text.replace("dependencies = [", 'dependencies = [\n    "no-such-thing>=3",\n    "torch>=99",', 1)
        (folder / name).write_text(text, encoding="utf-8")
    git(folder, "init", "-q", "-b", "main")
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "-m", "one")
    git(folder, "tag", "v1")
    (folder / "later.txt").write_text("after the tag", encoding="utf-8")
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "-m", "two")
    return folder.as_uri()


class Host:
    """A place where a chapter is opened without the course beside it."""

    def __init__(self, folder: Path, kind: str):
        self.folder, self.kind, self.site = folder, kind, folder / "site"
        self.work = folder / "work"
        for name, text in {
            "google/__init__.py": "",
            "google/colab/__init__.py": COLAB,
            "pip/__init__.py": "",
            "pip/__main__.py": PIP,
        }.items():
            (self.site / name).parent.mkdir(parents=True, exist_ok=True)
            (self.site / name).write_text(text, encoding="utf-8")
        self.work.mkdir()

    def run(self, cell: str, after: str = AFTER) -> subprocess.CompletedProcess:
        """The cell in a fresh Python of this host, then ``after``."""
        start = "import google.colab\n" if self.kind == "Colab" else ""
        known = {k: v for k, v in os.environ.items() if not k.startswith(("KAGGLE", "PYTHONPATH"))}
        known |= {"PYTHONPATH": str(self.site)} | ({"KAGGLE_KERNEL_RUN_TYPE": "Batch"} if self.kind == "Kaggle" else {})
        code = f"{start}exec({cell!r})\n{after}"
        return subprocess.run(
            [sys.executable, "-c", code], cwd=self.work, env=known, capture_output=True, text=True, encoding="utf-8"
        )

    @property
    def asked(self) -> list:
        path = self.site / "asked.json"
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else []


@pytest.mark.parametrize("kind", ["Colab", "Kaggle"])
def test_on_a_host(repository, tmp_path, kind):
    """The tag is cloned shallowly; what is missing is asked for, NumPy and torch held; the folder is the chapters'."""
    there = Host(tmp_path, kind)
    done = there.run(first_cell.cell(repository, "v1"))
    assert done.returncode == 0, done.stderr
    assert ("widgets enabled" in done.stdout) == (kind == "Colab")
    assert "helpers True" in done.stdout and "folder notebooks False" in done.stdout
    clone = there.work / first_cell.NAME
    assert not (clone / "later.txt").exists() and (clone / ".git" / "shallow").exists()
    command, limits = there.asked
    assert command[:3] == ["install", "-q", "-c"] and command[4:] == ["no-such-thing>=3"]
    assert limits.splitlines() == [f"{name}=={metadata.version(name)}" for name in host.KEPT]


def test_again_on_a_host(repository, tmp_path):
    """Run twice, as people do, and once more after a restart: nothing is cloned anew, no clone in a clone."""
    there = Host(tmp_path, "Kaggle")
    cell = first_cell.cell(repository, "v1")
    for expected in (1, 1):
        done = there.run(f"{cell}\n{cell}")
        assert done.returncode == 0 and done.stdout.count("installed: no-such-thing") == expected, done.stderr
    assert [p.parent.relative_to(there.work) for p in there.work.rglob(".git")] == [Path(first_cell.NAME)]


def test_pip_fails(repository, tmp_path):
    there = Host(tmp_path, "Kaggle")
    (there.site / "pip_fails").touch()
    done = there.run(first_cell.cell(repository, "v1"))
    assert done.returncode and "pip could not install no-such-thing>=3" in done.stderr


def test_elsewhere_it_does_nothing(repository, tmp_path):
    there = Host(tmp_path, "laptop")
    done = there.run(first_cell.cell(repository, "v1"), "import os\nprint(os.listdir())")
    assert (done.returncode, done.stdout.strip(), there.asked) == (0, "[]", [])


def test_nothing_is_missing_here():
    """This environment has all; what a host's own page does is not asked for."""
    assert host.missing() == []
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["dependencies"]
    names = [re.match(r"[\w-]+", d)[0] for d in declared]
    assert set(host.KEPT + host.NOT_THERE) <= set(names)
    read = [d for d, name in zip(declared, names, strict=True) if name not in host.NOT_THERE]
    assert all(re.fullmatch(r"[\w-]+>=[\d.]+", d) for d in read)  # the form that host.missing reads


@pytest.mark.parametrize(
    ("name", "lowest", "met"), [("numpy", "1.0", True), ("numpy", "99", False), ("nowhere", "0", False)]
)
def test_versions_are_compared(name, lowest, met):
    assert host._met(name, lowest) is met


# ---------------------------------------------------------------------------------------------------------------------
# Stamping


def a_chapter():
    cells = [nbformat.v4.new_markdown_cell("# 00 · Title"), nbformat.v4.new_code_cell("1", execution_count=1)]
    return nbformat.v4.new_notebook(cells=cells)


def test_stamped_again():
    """Behind the title, once; another address replaces it; outputs follow the numbers of their cells."""
    chapter = a_chapter()
    chapter.cells[1].outputs = [nbformat.v4.new_output("execute_result", {"text/plain": "1"}, execution_count=1)]
    first_cell.stamp(chapter, "https://github.com/a/b", "v1")
    first_cell.stamp(chapter, "https://github.com/c/d", "v2")
    assert len(chapter.cells) == 3 and "c/d" in chapter.cells[1].source and "a/b" not in chapter.cells[1].source
    assert [c.execution_count for c in chapter.cells[1:]] == [1, 2]
    assert chapter.cells[2].outputs[0].execution_count == 2
    nbformat.validate(chapter)
    before = nbformat.writes(chapter)
    assert nbformat.writes(first_cell.stamp(chapter, "https://github.com/c/d", "v2")) == before


def test_command_stamps_copies(tmp_path, capsys):
    first_cell.main(["--out", str(tmp_path), "--repository", "https://github.com/a/b", "--tag", "v3"])
    copies = sorted(tmp_path.glob("*.ipynb"))
    assert len(copies) == len(first_cell.chapters()) and "start from" in capsys.readouterr().out
    for path in copies:
        cell = nbformat.read(path, as_version=4).cells[1].source
        assert '"v3"' in cell and len(cell.splitlines()) <= 15
        compile(cell, path.name, "exec")


def test_the_chapters_hold_the_setting():
    """Each chapter has the cell once, behind its title, with the address of pyproject.toml."""
    now = settings()
    wanted = first_cell.cell(now["repository"], now["tag"])
    for path in first_cell.chapters():
        cells = nbformat.read(path, as_version=4).cells
        found = [k for k, c in enumerate(cells) if c.source.startswith(first_cell.MARK)]
        assert found == [1] and cells[1].source == wanted, f"{path.name}: run python -m notebooks.book.first_cell"
        assert cells[1].outputs == []


def test_without_an_address_the_reader_is_asked(tmp_path):
    """A fork that has not set its own yet, on a host: a sentence instead of a failing import."""
    done = Host(tmp_path, "Kaggle").run(first_cell.cell("", "v1"))
    assert done.returncode and "Write the address of the course's repository into this cell" in done.stderr


@pytest.mark.parametrize("address", ['https://x.org/"; rm', "--upload-pack=x", "a\nb"])
def test_strange_addresses_are_refused(address):
    with pytest.raises(BookError):
        first_cell.cell(address, "v1")


@pytest.mark.parametrize("address", ["", "https://gitlab.com/a/b", "https://github.com/a"])
def test_no_dead_buttons(address):
    """The hosts open notebooks from GitHub; for any other address there is no link."""
    assert first_cell.links("00_start_here.ipynb", address, "v1") == ""


# ---------------------------------------------------------------------------------------------------------------------
# Files of the hosts


def test_binder_and_codespaces():
    """The light build of torch; Python in the range of pyproject.toml."""
    needs = (ROOT / ".binder" / "requirements.txt").read_text(encoding="utf-8").splitlines()
    assert "--extra-index-url https://download.pytorch.org/whl/cpu" in needs and "-e ." in needs
    container = json.loads((ROOT / ".devcontainer" / "devcontainer.json").read_text(encoding="utf-8"))
    assert (
        "download.pytorch.org/whl/cpu" in container["onCreateCommand"]
        and "pip install -e" in container["onCreateCommand"]
    )
    for path in container["customizations"]["codespaces"]["openFiles"]:
        assert (ROOT / path).exists()
    low, high = re.findall(
        r"3\.(\d+)", tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["requires-python"]
    )
    pythons = [(ROOT / ".binder" / "runtime.txt").read_text(encoding="utf-8"), container["image"]]
    assert all(int(low) <= int(re.search(r"3\.(\d+)", p)[1]) < int(high) for p in pythons)


@pytest.mark.parametrize(
    ("schema", "paths"),
    [("vendor.github-workflows", WORKFLOWS), ("vendor.citation-file-format", [ROOT / ".github" / "CITATION.cff"])],
)
def test_against_the_schema(schema, paths):
    """The published schema, which comes with check-jsonschema: nothing is fetched."""
    if not importlib.util.find_spec("check_jsonschema"):
        (pytest.fail if os.environ.get("CI") else pytest.skip)(
            'check-jsonschema is not installed; pip install -e ".[book]"'
        )
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", schema, *map(str, paths)]
    done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8")
    assert paths and done.returncode == 0, done.stdout + done.stderr


def test_workflows_run_the_readmes_command():
    """Three systems, the Pythons of pyproject.toml; steps have a name of an action or a command, and jobs a limit."""
    flows = {p.stem: yaml.safe_load(p.read_text(encoding="utf-8")) for p in WORKFLOWS}
    matrix = flows["tests"]["jobs"]["tests"]["strategy"]["matrix"]
    assert {s.partition("-")[0] for s in matrix["os"]} == {"ubuntu", "macos", "windows"}
    low, high = re.findall(
        r"3\.(\d+)", tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["requires-python"]
    )
    assert matrix["python"] == [f"3.{n}" for n in range(int(low), int(high))]
    steps = "\n".join(str(s.get("run", "")) for s in flows["tests"]["jobs"]["tests"]["steps"])
    for command in ('pip install -e ".[test]"', "pytest", "python -m venv .venv"):
        assert command in steps
    for name, flow in flows.items():
        for job in flow["jobs"].values():
            assert job["timeout-minutes"] and all(("uses" in s) != ("run" in s) for s in job["steps"]), name
            assert all(re.search(r"@v\d+$", s["uses"]) for s in job["steps"] if "uses" in s)
    include = flows["weekly"]["jobs"]["versions"]["strategy"]["matrix"]["include"]
    assert {row["name"] for row in include} == {"oldest", "newest"} and "schedule" in flows["weekly"][True]


def test_citation_and_version():
    version = settings()["version"]
    citation = yaml.safe_load((ROOT / ".github" / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == version
    assert f"## {version}" in (ROOT / ".github" / "CHANGELOG.md").read_text(encoding="utf-8")
