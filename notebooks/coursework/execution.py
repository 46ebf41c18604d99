"""nbgrader's execution of a submission: in a room of its own, within bounds, and made to outlive the code that it runs.

All of this is in the preprocessor that nbgrader calls, so it holds for ``course.py grade``, ``nbgrader autograde`` and
the button *Autograde* of the Formgrader alike.
"""

import json
import os
import random
import shutil
import site
import sys
import tempfile
import time
from contextlib import contextmanager, suppress
from copy import deepcopy
from pathlib import Path
from typing import NamedTuple

import nbformat
from confine import TEMPORARY, clean
from guard import HEAD
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from jupyter_core.utils import run_sync
from nbclient.exceptions import CellTimeoutError, DeadKernelError
from nbformat.v4 import new_code_cell, new_output
from nbgrader.preprocessors import Execute
from nbgrader.utils import is_grade, is_solution
from traitlets import Integer

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
PREFIX = "grade-"  # of a room's name; then comes the process that made it


class Room(NamedTuple):
    """Where one submission runs."""

    folder: Path
    work: Path  # the kernel's working directory, with the files that were handed in
    env: dict[str, str]


def sweep() -> None:
    """Remove rooms whose process was killed before it could do so."""
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        owner = folder.name.removeprefix(PREFIX).split("-")[0]
        if owner.isdigit() and not _alive(int(owner)) and not folder.is_symlink():
            shutil.rmtree(folder, ignore_errors=True)


def _alive(process: int) -> bool:
    import psutil

    return psutil.pid_exists(process)


@contextmanager
def room(course: Path, submission: Path):
    """A place for one submission: copies of the helpers, the data and what was handed in, an empty home.

    Students' code imports the copy, so that overwriting it harms nobody; what the instructor's environment holds
    (tokens, proxies) is not passed on. The checkpoints of the course are left out: no assignment needs them.
    """
    sweep()
    with tempfile.TemporaryDirectory(prefix=f"{PREFIX}{os.getpid()}-", ignore_cleanup_errors=True) as name:
        folder = Path(name).resolve()
        skip = shutil.ignore_patterns("__pycache__", "renderer", "checkpoints", "train.zip", "*.part")
        for part in ("helpers", "data"):
            shutil.copytree(ROOT / part, folder / part, ignore=skip)
        for part in ("home", "tmp", "run", "fonts", "kernels/python3"):
            (folder / part).mkdir(parents=True)
        shutil.copytree(submission, folder / "work", ignore=shutil.ignore_patterns("*.ipynb"))
        for fonts in Path.home().glob(".cache/matplotlib/fontlist-*.json"):
            shutil.copy(fonts, folder / "fonts")  # or matplotlib looks for fonts all over the system, each time
        spec = {
            "argv": [sys.executable, str(HERE / "confine.py"), "-f", "{connection_file}"],
            "display_name": "Python 3 (ipykernel)",
            "language": "python",
        }
        (folder / "kernels" / "python3" / "kernel.json").write_text(json.dumps(spec), encoding="utf-8")
        env = clean(os.environ)
        env |= {"PYTHONPATH": str(folder), "HOME": str(folder / "home"), "TMPDIR": str(folder / "tmp")}
        env |= {
            "JUPYTER_RUNTIME_DIR": str(folder / "run"),
            "COURSE_OFFLINE": "1",
            "MPLCONFIGDIR": str(folder / "fonts"),
        }
        env |= {"OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1", "MPLBACKEND": "Agg", "CUDA_VISIBLE_DEVICES": ""}
        env |= {"COURSEWORK_ROOM": str(folder), "NBGRADER_EXECUTION": "autograde"}
        env |= {"COURSEWORK_HIDDEN": os.pathsep.join(hidden(course)), "COURSEWORK_KEPT": os.pathsep.join(kept())}
        yield Room(folder, folder / "work", env)


def hidden(course: Path) -> list[str]:
    """Folders that a submission has no business in: your home, the course, this checkout, what is temporary."""
    homes = {os.path.expanduser("~")}
    with suppress(ImportError, KeyError):
        import pwd

        homes.add(pwd.getpwuid(os.getuid()).pw_dir)
    return [*sorted(homes), str(course), str(ROOT), *TEMPORARY]


def kept() -> list[str]:
    """What Python needs and may lie in one of them: an environment in your home, say."""
    roots = [sys.prefix, sys.base_prefix, sys.exec_prefix, str(Path(sys.executable).resolve().parent)]
    packages = [*site.getsitepackages(), site.getusersitepackages()]
    return [*roots, *packages, *filter(None, [os.environ.get("LPIPS_TRUNK")])]


class Survive(Execute):
    """Runs a notebook although a cell may end the kernel, never end or print without end, and tests it with the guard.

    nbgrader gives up a submission whose kernel dies, and waits out every cell after an endless loop that ignores its
    interruption. Here a cell that ends the kernel or exceeds its time is set aside as failed, and the notebook is run
    again in a new kernel without it: what does not depend on that cell keeps its points.

    Test cells are run by guard.py, a part at a time. Before each one, a test that must fail is put to the same kernel:
    if it passes, the kernel cannot be trusted any more, and no test of the notebook gives points. What was found goes
    to ``notebook.metadata.coursework.flags``.
    """

    submission_timeout = Integer(300, help="seconds for a whole submission, all attempts together").tag(config=True)
    lives = Integer(4, help="how many kernels a submission may use up").tag(config=True)
    max_output = Integer(1_000_000, help="characters of output that are kept of a cell").tag(config=True)
    interrupt_on_timeout = False  # a cell out of time ends its kernel, see above
    shutdown_kernel = "immediate"
    startup_timeout = 120

    def preprocess(self, nb, resources, km=None):
        self._end = time.monotonic() + self.submission_timeout
        original, failed = deepcopy(nb), {}
        directory = self.parent.parent.coursedir
        names = resources["nbgrader"]
        release = directory.format_path(directory.release_directory, ".", names["assignment"])
        self._first = first_cells(nbformat.read(Path(release) / f"{names['notebook']}.ipynb", as_version=4))
        with room(Path(directory.root), Path(resources["metadata"]["path"])) as self._room:
            for _ in range(self.lives):
                attempt = deepcopy(original)
                for index in failed:
                    attempt.cells[index].cell_type = "raw"  # not run
                self._flags, self._printed, self._patient = [], {}, True
                try:
                    attempt, resources = super().preprocess(attempt, resources, km)
                    break
                except (DeadKernelError, CellTimeoutError) as error:
                    failed[self._at] = "took too long" if isinstance(error, CellTimeoutError) else "ended the kernel"
                    self.log.warning("Cell %d %s", self._at, failed[self._at])
                    if time.monotonic() > self._end:
                        failed |= {i: "was not reached in time" for i in range(self._at + 1, len(original.cells))}
                        break
            else:
                failed |= {i: "was not reached: too many cells ended the kernel" for i in range(len(original.cells))}
        for index, why in failed.items():
            cell = attempt.cells[index] = deepcopy(original.cells[index])
            if cell.cell_type == "code":
                cell.outputs = [not_graded(f"this cell {why}")]
        nb.cells = attempt.cells
        nb.metadata["coursework"] = {"flags": sorted(set(self._flags))}
        return nb, resources

    def create_kernel_manager(self):
        """A manager that starts confine.py, and talks to it through files: it has no network."""
        specs = KernelSpecManager(kernel_dirs=[str(self._room.folder / "kernels")], ensure_native_kernel=False)
        self.km = AsyncKernelManager(kernel_name="python3", kernel_spec_manager=specs, config=self.config)
        self.km.connection_file = str(self._room.folder / "run" / "kernel.json")
        if sys.platform == "linux":
            self.km.transport, self.km.ip = "ipc", str(self._room.folder / "run" / "k")
        return self.km

    async def async_start_new_kernel(self, **kwargs):
        await super().async_start_new_kernel(env=dict(self._room.env), cwd=str(self._room.work), **kwargs)

    start_new_kernel = run_sync(async_start_new_kernel)  # nbclient's own is bound to the method above it

    def preprocess_cell(self, cell, resources, index):
        self._at = index
        if self._patient:  # with this computer, as long as nothing of the student's has run
            try:
                self._ask({"do": "remember"}, self._first, resources, index)
            except (DeadKernelError, CellTimeoutError) as error:
                raise RuntimeError(f"the first cells of the assignment do not run on this computer: {error}") from None
            self._patient = False
        if cell.cell_type != "code" or not is_grade(cell) or is_solution(cell):
            return super().preprocess_cell(cell, resources, index)
        job = {"do": "test", "points": 1, "name": "canary"}
        answer, _ = self._ask(job, canary(), resources, index)
        self._flags += answer["flags"]
        if answer.get("score") != 0 or "error" in answer:
            self._flags.append("a test that must fail was passed: the points of this notebook are not counted")
        job = {"do": "test", "points": cell.metadata.nbgrader.points, "name": cell.metadata.nbgrader.grade_id}
        answer, outputs = self._ask(job, cell.source, resources, index)
        self._flags += answer["flags"]
        if answer.get("distrusted"):
            self._flags.append(f"{job['name']} was not counted")
        if any("must fail" in flag for flag in self._flags):
            answer = {"error": "a test that must fail was passed in this kernel", "flags": []}
        cell.outputs = [o for o in outputs if o.output_type == "stream" and o.name == "stdout"] + verdict(answer)
        return cell, resources

    def _ask(self, job: dict, source: str, resources, index: int) -> tuple[dict, list]:
        """Put a cell to the guard; (its answer, what the cell printed)."""
        cell = new_code_cell(f"{HEAD}{json.dumps(job)}\n{source}")
        self._answer, at = None, self.nb.cells[index]
        try:
            super().preprocess_cell(cell, resources, index)
        finally:
            self.nb.cells[index] = at  # nbclient puts what it runs into the notebook
        answer = self._answer if isinstance(self._answer, dict) else {"error": "the kernel gave no answer", "flags": []}
        if job["do"] == "remember" and "error" in answer:
            raise RuntimeError(f"the first cells of the assignment do not run on this computer: {answer['error']}")
        return {"flags": []} | answer, cell.outputs

    def on_cell_executed(self, **kwargs):
        self._answer = kwargs["execute_reply"]["content"].get("coursework")
        super().on_cell_executed(**kwargs)

    def process_message(self, msg, cell, cell_index):
        """Forget what a cell prints beyond ``max_output``."""
        content = msg["content"]
        if msg["msg_type"] in ("stream", "display_data", "update_display_data", "execute_result", "error"):
            size = len(str(content.get("text", ""))) + sum(len(str(v)) for v in content.get("data", {}).values())
            size += sum(map(len, content.get("traceback", ())))
            before = self._printed.get(cell_index, 0)
            self._printed[cell_index] = before + size
            if before + size > self.max_output:
                if before <= self.max_output:
                    if msg["msg_type"] == "stream":
                        begin = {**content, "text": content["text"][: self.max_output - before]}
                        super().process_message({**msg, "content": begin}, cell, cell_index)
                    text = f"\n... more than {self.max_output} characters: the rest was left out ...\n"
                    cell.outputs.append(new_output("stream", name="stdout", text=text))
                return None
        return super().process_message(msg, cell, cell_index)

    def _get_timeout(self, cell):
        """Seconds for this cell: what is configured, or what is left for the submission."""
        seconds = self.submission_timeout if self._patient else super()._get_timeout(cell) or self.submission_timeout
        return max(1, min(seconds, int(self._end - time.monotonic())))


def first_cells(released) -> str:
    """The code before the first exercise: imports and data that the tests rely on."""
    cells = []
    for cell in released.cells:
        if "nbgrader" in cell.metadata and cell.cell_type == "code":
            break
        if cell.cell_type == "code":
            cells.append(cell.source)
    return "\n\n".join(cells)


def canary() -> str:
    """A test in which every part must fail, of numbers that are new each time."""
    low, high = random.uniform(0, 0.4), random.uniform(0.6, 1)
    checks = [
        f"assert abs({low} - {high}) < 1e-6",
        f"assert {low} > {high}, 'no'",
        f"import torch\nassert torch.isclose(torch.tensor({low}), torch.tensor({high}))",
        f"import torch\nassert torch.allclose(torch.tensor([{low}]), torch.tensor([{high}]), atol=1e-3)",
        f"import numpy as np\nassert np.isclose({low}, {high}) or np.allclose([{low}], [{high}])",
        f"assert all(v == {high} for v in ({low}, {high}))",
    ]
    random.shuffle(checks)
    worth = 1 / len(checks)
    return "\n".join(f"# {worth:.15f} points: {n}\n{check}" for n, check in enumerate(checks))


def verdict(answer: dict) -> list:
    """A test cell's outputs as nbgrader reads them: nothing (all points), a number (some), an error (none)."""
    if "error" in answer:
        return [not_graded(answer["error"])]
    if answer.get("distrusted"):
        return [not_graded("; ".join(answer["flags"]))]
    failed = [part for part in answer["parts"] if part[2]]
    if not failed:
        return []
    if not answer["score"]:
        name, value = failed[0][2].partition(": ")[::2]
        lines = [line for part in failed for line in _told(part, len(answer["parts"]))]
        return [new_output("error", ename=name, evalue=value, traceback=lines)]
    text = "\n".join(line for part in failed for line in _told(part, len(answer["parts"])))
    number = new_output("execute_result", data={"text/plain": f"{answer['score']:g}"}, execution_count=None)
    return [new_output("stream", name="stdout", text=text + "\n"), number]


def _told(part: list, parts: int) -> list[str]:
    label, points, _, traceback = part
    head = [f"No points for {label} ({points:g}):"] if parts > 1 else []
    return head + "".join(traceback).rstrip().splitlines()


def not_graded(text: str):
    """The output of a cell that could not be run as it should."""
    return new_output("error", ename="NotGraded", evalue=text, traceback=[f"NotGraded: {text}"])
