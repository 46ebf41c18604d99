"""The project as a whole: what lies where, what is installed, what imports, what is documented."""

import ast
import importlib
import inspect
import os
import pkgutil
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml

import helpers
from tests.conftest import ROOT

TOP = {"notebooks", "helpers", "data", "tests", "environment.yml", "README.md", "pyproject.toml", "LICENSE"}
PREFIX = "helpers."
PACKAGES = {m.name.removeprefix(PREFIX) for m in pkgutil.iter_modules(helpers.__path__, PREFIX) if m.ispkg}
MODULES = sorted(
    name
    for m in pkgutil.walk_packages(helpers.__path__, PREFIX)
    if (name := m.name.removeprefix(PREFIX)) not in PACKAGES
)  # "data", "engine.runs", ...
CACHES = {
    "__pycache__",
    ".pytest_cache",
    ".ruff_cache",
    ".ipynb_checkpoints",
    ".git",
    ".venv",
    "build",
    "runs",
    ".partial",
}
TEXT = {".py", ".md", ".toml", ".yml", ".yaml", ".cfg", ".json", ".jsonl", ".csv", ".txt", ".sh", ""}


def project_files() -> list[Path]:
    """What belongs to the project: git's list where there is git, else every file that is no by-product."""
    done = None
    if (ROOT / ".git").exists():
        try:
            done = subprocess.run(
                ["git", "-c", f"safe.directory={ROOT}", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
                cwd=ROOT, capture_output=True, text=True,
            )  # fmt: skip
        except FileNotFoundError:  # no git on this machine
            done = None
    if done is not None and done.returncode == 0:
        return sorted(p for name in done.stdout.split("\0") if name and (p := ROOT / name).is_file())
    return sorted(
        p
        for p in ROOT.rglob("*")
        if p.is_file()
        and not CACHES & set(p.relative_to(ROOT).parts)
        and not any(part.endswith(".egg-info") for part in p.parts)
        and p.suffix not in (".pyc", ".part")
    )


@pytest.fixture(scope="module")
def files() -> list[Path]:
    return project_files()


@pytest.fixture(scope="module")
def pyproject() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


# ---------------------------------------------------------------------------------------------------------------------
# What lies where


def test_top_level(files):
    """Eight entries that a reader sees, and files that begin with a dot."""
    seen = {p.relative_to(ROOT).parts[0] for p in files}
    assert {name for name in seen if not name.startswith(".")} == TOP


def test_sizes(files):
    """A repository that anybody can clone: no large file, data under 40 MB, checkpoints under 70 MB."""
    size = {p.relative_to(ROOT): p.stat().st_size for p in files}
    assert {str(p): s for p, s in size.items() if s > 45e6} == {}
    checkpoints = sum(s for p, s in size.items() if p.parts[:2] == ("data", "checkpoints"))
    data = sum(s for p, s in size.items() if p.parts[0] == "data") - checkpoints
    assert data < 40e6 and checkpoints < 70e6


def test_no_paths_of_one_machine(files):
    """Nothing that is written down may point into the author's own folders (test_notebooks looks at the chapters)."""
    homes = "|".join(re.escape("/" + name + "/") for name in ("root", "work", "home", "Users", "tmp", "opt"))
    pattern = re.compile(rf"(?<![\w.~$}})])({homes})")
    found = []
    for path in files:
        if path.suffix in TEXT and path != Path(__file__):
            for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
                if pattern.search(line) and not line.startswith("#!"):
                    found.append(f"{path.relative_to(ROOT)}:{number}: {line.strip()[:100]}")
    assert found == []


def test_no_pickles_and_no_photographs_by_suffix(files):
    """Weights are safetensors, which cannot carry a program."""
    assert [str(p.relative_to(ROOT)) for p in files if p.suffix in (".pkl", ".pt", ".pth", ".ckpt", ".npy")] == []


def test_licence():
    text = (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert text.startswith("MIT License") and "Copyright" in text


# ---------------------------------------------------------------------------------------------------------------------
# What is installed


def test_environment_installs_the_project(pyproject):
    """environment.yml brings Python and pip; the list of packages stands in pyproject.toml alone."""
    environment = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    conda = [d for d in environment["dependencies"] if isinstance(d, str)]
    (pip,) = [d["pip"] for d in environment["dependencies"] if isinstance(d, dict)]
    assert pip == ["-e .[test]"]
    python = [d for d in conda if re.match(r"python\b", d)]
    assert sorted(conda) == sorted([*python, "pip"]) and len(python) == 1
    assert python[0].removeprefix("python").replace(" ", "") == pyproject["project"]["requires-python"].replace(" ", "")
    assert environment["channels"] == ["conda-forge", "nodefaults"]


def test_this_python_is_in_range(pyproject):
    low, high = re.findall(r"3\.(\d+)", pyproject["project"]["requires-python"])
    assert int(low) <= sys.version_info.minor < int(high)


def imported(path: Path) -> set[str]:
    """Top-level packages that a source file imports, anywhere in it."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {a.name.split(".")[0] for a in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names.add(node.module.split(".")[0])
    return names


PACKAGE = {"cv2": "opencv-python", "PIL": "pillow", "skimage": "scikit-image", "pytorch_msssim": "pytorch-msssim"}
PACKAGE |= {
    "yaml": "pyyaml",
    "IPython": "jupyterlab",
    "scipy": "scikit-image",
    "traitlets": "ipywidgets",
    "jupyter_server": "voila",
}  # brought along


@pytest.mark.parametrize("folder", ["helpers", "data", "tests"])
def test_every_import_is_declared(folder, pyproject):
    """What the code imports is installed with it: tests may use the test packages as well."""
    project = pyproject["project"]
    declared = project["dependencies"] + (project["optional-dependencies"]["test"] if folder == "tests" else [])
    declared = {re.match(r"[\w-]+", d)[0].lower() for d in declared}
    own = {
        "helpers",
        "tests",
        "renderer",
        "notebooks",
        *(p.stem for p in (ROOT / "notebooks" / "coursework").glob("*.py")),
    }
    used = set().union(*(imported(p) for p in (ROOT / folder).rglob("*.py"))) - set(sys.stdlib_module_names) - own
    assert {name for name in used if PACKAGE.get(name, name).lower() not in declared} == set()


WHEEL = "import sys; from setuptools import build_meta; build_meta.build_wheel(sys.argv[1])"
FROM_IT = """
import helpers.inspector.panes
from helpers.data import ImageError, load_faces
try:
    load_faces("test", 1)
except ImageError as error:
    print(error)
"""


def test_a_wheel_holds_what_the_helpers_need(tmp_path, files):
    """Every module, script and style sheet of ``helpers`` and nothing else; faces are asked for with a clear word."""
    setuptools = pytest.importorskip("setuptools")
    if int(setuptools.__version__.split(".")[0]) < 77:
        pytest.skip("setuptools is older than what pyproject.toml builds with")
    source, out = tmp_path / "source", tmp_path / "installed"
    shutil.copytree(ROOT / "helpers", source / "helpers", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    done = subprocess.run([sys.executable, "-c", WHEEL, str(tmp_path)], cwd=source, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}
        archive.extractall(out)
    assert held == {p.relative_to(ROOT).as_posix() for p in files if p.is_relative_to(ROOT / "helpers")}
    here = {k: v for k, v in os.environ.items() if k != "COURSE_DATA"} | {"PYTHONPATH": str(out)}
    done = subprocess.run([sys.executable, "-c", FROM_IT], cwd=tmp_path, env=here, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert str(out) in done.stdout and "COURSE_DATA names the folder" in done.stdout


# ---------------------------------------------------------------------------------------------------------------------
# The helpers


ALONE = """
import importlib, sys
for name in sys.argv[1:]:
    for loaded in [m for m in sys.modules if m.split(".")[0] == "helpers"]:
        del sys.modules[loaded]
    importlib.import_module("helpers." + name)
"""


def source_of(module: str) -> Path:
    return ROOT / "helpers" / (module.replace(".", "/") + ".py")


def imports_between() -> dict[str, set[str]]:
    """module -> the modules of helpers that it imports, anywhere in it; names without "helpers."."""
    needs = {}
    for name in MODULES:
        nodes = list(ast.walk(ast.parse(source_of(name).read_text(encoding="utf-8"))))
        froms = [n for n in nodes if isinstance(n, ast.ImportFrom)]
        wanted = {f"{n.module}.{a.name}" for n in froms if n.module for a in n.names} | {n.module for n in froms}
        wanted |= {a.name for n in nodes if isinstance(n, ast.Import) for a in n.names}
        needs[name] = {w.removeprefix(PREFIX) for w in wanted if w and w.startswith(PREFIX)} & set(MODULES)
    return needs


def test_every_module_imports_alone():
    """In a fresh interpreter, each first: a circle of imports would break at one of them."""
    done = subprocess.run([sys.executable, "-c", ALONE, *MODULES], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout == "", done.stderr


def test_no_circle_of_imports():
    """Module by module, what needs nothing else is taken away until nothing is left."""
    needs = imports_between()
    while needs:
        free = {name for name, wanted in needs.items() if not wanted & needs.keys()}
        assert free, f"these import each other: {needs}"
        needs = {name: wanted for name, wanted in needs.items() if name not in free}


# From the ground up. A module imports from its own layer and from those before it; a module that is not named here
# belongs to the thesis. A new package wants a line.
LAYERS = (
    ("engine", "seeds"),
    ("thesis",),
    ("reviewed",),
    ("experiments",),
    ("wiener", "methods", "comparison", "planes", "matrix", "restore", "skin", "identity"),
    ("exercises", "inspector"),
)


def layer_of(module: str) -> int:
    top = module.split(".")[0]
    wanted = top if top in PACKAGES or any(top in layer for layer in LAYERS) else "thesis"
    return next(place for place, layer in enumerate(LAYERS) if wanted in layer)


def test_packages_import_in_one_direction():
    """Nothing looks up: the engine knows no images, the thesis none of what came after it."""
    upward = [
        f"{name} imports {other}"
        for name, wanted in imports_between().items()
        for other in wanted
        if layer_of(other) > layer_of(name)
    ]
    assert sorted(upward) == []


def test_layers_hold_every_package():
    """Each package has its place, and no place is for a module that is gone."""
    named = {name for layer in LAYERS for name in layer}
    assert named - {"thesis"} <= PACKAGES | set(MODULES) and named >= PACKAGES


LONGEST_MODULE, LONGEST_FUNCTION = 450, 80


def test_modules_and_functions_can_be_read_in_one_sitting():
    """At most 450 lines in a module and 80 in a function, docstring, decorators and signature included."""
    long = []
    for path in sorted((ROOT / "helpers").rglob("*.py")):
        text, name = path.read_text(encoding="utf-8"), str(path.relative_to(ROOT))
        lines = len(text.splitlines())
        if lines > LONGEST_MODULE:
            long.append(f"{name}: {lines} lines")
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = node.end_lineno - min([node.lineno, *(d.lineno for d in node.decorator_list)]) + 1
                if lines > LONGEST_FUNCTION:
                    long.append(f"{name}: {node.name} has {lines} lines")
    assert long == []


def test_a_network_can_be_imported_alone():
    """A reviewed method's module brings along neither accelerate nor most of the course."""
    program = """
import helpers.reviewed.diffir, sys
print("accelerate" in sys.modules, sum(m.startswith("helpers") for m in sys.modules))
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    accelerate, modules = done.stdout.split()
    assert accelerate == "False" and int(modules) <= 12


@pytest.mark.parametrize("name", MODULES)
def test_everything_public_has_a_docstring(name):
    """Modules, classes, functions; methods too, unless they only fill in what a parent documents."""
    module = importlib.import_module(f"helpers.{name}")
    assert inspect.getdoc(module) and name.split(".")[-1] in helpers.__doc__
    bare = []
    for key, value in vars(module).items():
        own = getattr(value, "__module__", None) == module.__name__
        if key.startswith("_") or not own or not (inspect.isclass(value) or inspect.isfunction(value)):
            continue
        if not value.__doc__ and key != "main":
            bare.append(key)
        for method, body in vars(value).items() if inspect.isclass(value) else ():
            filled_in = any(hasattr(parent, method) for parent in value.__mro__[1:])
            if inspect.isfunction(body) and not method.startswith("_") and not filled_in and not body.__doc__:
                bare.append(f"{key}.{method}")
    assert [b for b in bare if b != "Degradation.sample"] == []  # described in its class


@pytest.mark.parametrize("name", MODULES)
def test_every_module_has_a_test_file(name):
    path = ROOT / "tests" / (f"test_{name}.py" if "." not in name else name.replace(".", "/test_") + ".py")
    assert path.exists() and f"helpers.{name}" in path.read_text(encoding="utf-8")


@pytest.mark.parametrize("arguments", [["check"], ["format", "--check"]])
def test_ruff(arguments):
    """Style is decided by a program; a chapter's code is held to it as well."""
    folders = [f for f in ("helpers", "tests", "data", "notebooks") if (ROOT / f).is_dir()]
    done = subprocess.run(
        [sys.executable, "-m", "ruff", *arguments, "--no-cache", *folders], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]


def test_text_files_say_their_encoding():
    """Also where ruff's PLW1514 cannot tell that an object is a path: on Windows the default is not UTF-8."""
    silent = []
    for path in (p for folder in ("helpers", "tests", "data", "notebooks") for p in (ROOT / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            text = isinstance(node, ast.Call) and getattr(node.func, "attr", "") in ("read_text", "write_text")
            if text and "encoding" not in {k.arg for k in node.keywords}:
                silent.append(f"{path.relative_to(ROOT)}:{node.lineno}")
    assert silent == []


# ---------------------------------------------------------------------------------------------------------------------
# The README


def test_readme_names_every_notebook():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    notebooks = sorted(p.name for p in (ROOT / "notebooks").glob("*.ipynb"))
    assert notebooks and [name for name in notebooks if name not in text] == []


def test_readme_links_lead_somewhere():
    """Every relative link of README.md and data/README.md points to something that is there."""
    dead = []
    for readme in (ROOT / "README.md", ROOT / "data" / "README.md"):
        for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", readme.read_text(encoding="utf-8")):
            if "://" not in target and not target.startswith("mailto:") and not (readme.parent / target).exists():
                dead.append(f"{readme.relative_to(ROOT)}: {target}")
    assert dead == []
