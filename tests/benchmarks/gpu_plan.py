"""A plan for a GPU that is lent for a quarter of an hour: one command, the most valuable part first, nothing lost.

::

    bash tests/benchmarks/on_gpu.sh                   # everything within MINUTES
    PARTS="2 3" bash tests/benchmarks/on_gpu.sh       # some parts; another call goes on from the folder RUNS
    bash tests/benchmarks/on_gpu.sh --dry-run         # every part in miniature, on the processor

Each part gets its share of the time that is left. A training first takes a few steps in a folder of its own to see how
fast it is, then as many steps as fit, so that its learning rate comes down to the end; the number is kept, and a later
call goes on with it. At its limit a part gets SIGTERM: it saves its state, writes the checkpoint of what it has come
to, measures it on validation and test pictures, and both are copied to OUT at once. The small networks leave most of
a large GPU idle, so they are trained side by side. Nothing is installed or downloaded.

Environment: ``OUT`` (runs/gpu/out), ``RUNS`` (runs/gpu, the states), ``MINUTES`` of the whole (13), ``PARTS``; for a
place that takes only few and small files back ``MOST`` bytes a file (16M), ``FILES`` and ``TOTAL`` (bytes): with one of
them OUT holds one tar in pieces, the measures in front, and JOIN.txt. ``COMPILE=no`` trains the thesis's model without
torch.compile, which takes a minute and a half of part 2. ``COURSE_REAL_FACES``, ``COURSE_PORTRAITS``, ``LPIPS_TRUNK``:
see tests/conftest.py. What is trained on CelebA may be measured, not passed on.
"""

import argparse
import importlib.util
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from dataclasses import dataclass, field, replace
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
NEEDED = ("torch", "torchvision", "accelerate", "safetensors", "cv2", "skimage", "pandas", "lpips", "pytorch_msssim")
RESERVE = 40  # seconds of a training's limit for its checkpoint and its measures
PATIENCE = 10  # seconds beyond the limit after which a part is killed
PHOTOGRAPHS = "thesis-photographs"


@dataclass(frozen=True)
class Part:
    """A part of the plan.

    Parameters
    ----------
    number : what ``PARTS`` calls it
    share : of the time that is left, relative to the parts after it; those ``side_by_side`` count once together
    command : the module of a training and its options; for the other parts what is run
    steps : option -> how many at most; empty where nothing is trained
    method : key of :data:`helpers.methods.METHODS` that restores with what it leaves; "" where nothing can be restored
    leaves : in words
    """

    number: int
    name: str
    share: float
    command: tuple[str, ...]
    leaves: str
    steps: dict[str, int] = field(default_factory=dict)
    method: str = ""
    side_by_side: bool = False
    most: float = float("inf")  # seconds


def plan() -> list[Part]:
    """The parts, the most valuable first. Equation 42 is proportional: the rate halves after each quarter of a run."""
    thesis = ("helpers.training", "--batch-size", "32", "--ema", "0.999")
    thesis += ("--no-compile",) if os.environ.get("COMPILE") == "no" else ()
    start = str(folder("RUNS") / "results" / "thesis-faces.safetensors")
    sets = {os.environ.get("COURSE_REAL_FACES"): "2", os.environ.get("COURSE_PORTRAITS") and "portraits": "1"}
    sets.pop(None, None)
    sets.pop("", None)
    mixed = [word for name in (*sets, "faces") for word in ("--data", name)]
    mixed += ["--shares", *sets.values(), "1"]
    parts = [
        Part(1, "tests", 0.07, ("pytest", "-q", "-o", "addopts=", "-p", "no:cacheprovider",
                                "tests/engine/test_devices.py", "-k", "not compiled"), "a log", most=60),
        Part(2, "thesis-faces", 0.45, (*thesis, "--repeat", "20"), "the thesis's model", {"--epochs": 8}, "thesis"),
        Part(3, PHOTOGRAPHS, 0.18, (*thesis, "--repeat", "5", *mixed, "--start", start),
             "the same, on photographs", {"--epochs": 3}, "thesis"),
        Part(4, "pmrf", 0.3, ("helpers.reviewed.pmrf_training", "--sigma", "0.03", "--decay", "0.9995",
                              "--batch-size", "32"), "PMRF",
             {"--mean-steps": 5000, "--flow-steps": 12000}, "pmrf", True),
        *(
            Part(4, name, 0.3, ("helpers.reviewed.pmrf_training", "--kind", kind, "--sigma", "0.03",
                                "--decay", "0.9995", "--batch-size", "32"), f"PMRF's rival {kind}",
                 {"--flow-steps": 12000}, "", True)
            for name, kind in (("pmrf-from-y", "from_y"), ("pmrf-from-noise", "from_noise"))
        ),
        Part(5, "diffir", 0.3, ("helpers.reviewed.diffir_training", "--cpen-init", "kaiming", "--exact-prior",
                                "--rate", "3e-4", "--cosine-warmup", "500"), "DiffIR",
             {"--stage1-steps": 20000, "--warm-steps": 5000, "--joint-steps": 15000}, "diffir", True),
        Part(6, "skip-no-map", 0.3, ("helpers.experiments.skip_training", "--in-channels", "3"),
             "the skip model without an edge map", {"--train-steps": 8000}, "skip", True),
        Part(6, "skip-blind", 0.3, ("helpers.experiments.skip_training", "--degradation", "blind", "--augment",
                                    "--data", "portraits", "--data", "grey-portraits", "--data", "faces",
                                    "--shares", "2", "1", "1", "--start", "data/checkpoints/blind.safetensors",
                                    "--rate", "7e-4", "--batch-size", "32", "--validate-every", "4000"),
             "the skip model for photographs", {"--train-steps": 12000}, "skip", True),
        Part(7, "stylegan", 0.3, ("helpers.reviewed.autodecoder", "--batch-size", "32", "--w-dim", "256"),
             "the autodecoder; there is no adversarial stage", {"--small-steps": 20000, "--full-steps": 20000},
             "", True),
        Part(8, "benchmark", 0.1, (), "images/s beside the plain loop, share of the bf16 peak"),
    ]  # fmt: skip
    return parts if sets else [part for part in parts if part.name != PHOTOGRAPHS]


def lacking(parts: list[Part]) -> list[str]:
    """Files of the course that these parts read and that are not here: a tree that was made small may lack them."""
    names = {f"data/faces/{split}.zip" for split in ("train", "val", "test")}
    names |= {"data/checkpoints/identity.safetensors"}
    names |= {word for part in parts for word in part.command if word.startswith("data/checkpoints/")}
    return sorted(name for name in names if not (ROOT / name).exists())


def possible(part: Part) -> str:
    """Why a part cannot be run here; "" if it can."""
    if "portraits" in part.command and not os.environ.get("COURSE_PORTRAITS"):
        return "COURSE_PORTRAITS names no portraits"
    if part.name == PHOTOGRAPHS and not Path(part.command[part.command.index("--start") + 1]).exists():
        return "part 2 has left no checkpoint to start from"
    return ""


def miniature(part: Part) -> Part:
    """The part as a rehearsal: two steps on four pictures."""
    if part.name == "tests":
        return replace(part, command=(*part.command, "-k", "which_device"))
    if not part.steps:
        return part
    small = ("--batch-size", "2", "--limit", "4", "--precision", "no")
    small += ("--repeat", "1") if part.command[0] == "helpers.training" else ()
    return replace(part, command=(*part.command, *small), steps=dict.fromkeys(part.steps, 2))


def folder(name: str) -> Path:
    """OUT or RUNS, as an absolute path."""
    runs = Path(os.environ.get("RUNS") or "runs/gpu").resolve()
    return runs if name == "RUNS" else Path(os.environ.get("OUT") or runs / "out").resolve()


# ---------------------------------------------------------------------------------------------------------------------
# What goes back


def bytes_of(text: str | None) -> int | None:
    """ "16M" or a number of bytes; None for nothing."""
    if not text:
        return None
    factor = {"K": 2**10, "M": 2**20, "G": 2**30}.get(text[-1].upper(), 1)
    return int(float(text.rstrip("KMGkmg")) * factor)


def deliver(
    found: list[Path], out: Path, most: int | None = None, files: int | None = None, total: int | None = None
) -> None:
    """Copy the files ``found`` to ``out``; within limits as the pieces of one tar.

    Small files come first, then checkpoints in the order in which they were finished, those trained on photographs
    last; what would exceed the limits is left out and named in JOIN.txt, which counts as one of the ``files``.

    Parameters
    ----------
    most : bytes of a file at most
    files : files in ``out`` at most
    total : bytes in ``out`` at most
    """
    out.mkdir(parents=True, exist_ok=True)
    found = sorted(found, key=lambda p: (p.suffix == ".safetensors", p.stem == PHOTOGRAPHS, p.stat().st_mtime))
    if not (most or files or total):
        for path in found:
            shutil.copy2(path, out / path.name)
        return
    most = most or 16 * 2**20
    limit = min(total - 4096 if total else most * 10**6, most * (files - 1) if files else most * 10**6)
    content, left = io.BytesIO(), []
    with tarfile.open(fileobj=content, mode="w") as archive:
        for path in found:
            if content.tell() + path.stat().st_size + tarfile.RECORDSIZE + 2048 > limit:
                left.append(path.name)
            else:
                archive.add(path, path.name)
    pieces = content.getbuffer()
    count = -(-len(pieces) // most)
    for number in range(count):
        part = out / "piece.part"
        part.write_bytes(pieces[number * most : (number + 1) * most])
        part.replace(out / f"results.tar.{number:02d}")
    for old in out.glob("results.tar.*"):
        if int(old.suffix[1:]) >= count:
            old.unlink()
    told = f"cat results.tar.* | tar -x      # {count} pieces, {len(pieces)} bytes\n"
    (out / "JOIN.txt").write_text(told + "".join(f"left out: {name}\n" for name in left), encoding="utf-8")


def table(records: list[dict]) -> str:
    """The parts in Markdown."""
    columns = ("part", "seconds", "images", "images/s", "validation", "state")
    rows = [
        [f"{v:.0f}" if isinstance(v := record.get(c, ""), float) else str(v) for c in columns] for record in records
    ]
    return "\n".join(f"| {' | '.join(row)} |" for row in [columns, ["---"] * len(columns), *rows]) + "\n"


# ---------------------------------------------------------------------------------------------------------------------
# The parts after each other and side by side


class Plan:
    """Runs parts within a time, each in a process of its own.

    Parameters
    ----------
    parts : what is run, in this order
    seconds : for everything
    dry : the processes are told that they rehearse
    """

    def __init__(self, parts: list[Part], seconds: float, dry: bool):
        self.parts, self.seconds, self.dry = parts, seconds, dry
        self.began, self.runs, self.out = time.monotonic(), folder("RUNS"), folder("OUT")
        self.results, self.logs, self.copied = self.runs / "results", self.runs / "logs", None
        for path in (self.results, self.logs):
            path.mkdir(parents=True, exist_ok=True)

    @property
    def left(self) -> float:
        """Seconds."""
        return self.seconds - (time.monotonic() - self.began)

    def groups(self) -> list[list[Part]]:
        """The parts of each turn."""
        together = [part for part in self.parts if part.side_by_side and not self.dry]  # a processor takes one
        turns = [[part] for part in self.parts if part not in together]
        after = sum(part.number < together[0].number for (part,) in turns) if together else 0
        return [*turns[:after], *([together] if together else []), *turns[after:]]

    def run(self) -> bool:
        """Everything; whether all parts were done or cut off, and none failed."""
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # the time ends from outside
        groups = self.groups()
        try:
            for place, group in enumerate(groups):
                share = group[0].share / sum(later[0].share for later in groups[place:])
                self.turn(group, self.left if self.dry else min(self.left * share, group[0].most))
        except KeyboardInterrupt:
            print("stopped", flush=True)
        return self.close()

    def turn(self, group: list[Part], limit: float) -> None:
        """The parts of ``group`` at the same time, within ``limit`` seconds."""
        began, running = time.monotonic(), {}
        for part in group:
            if why := possible(part):
                self.record(part, {"state": f"left out: {why}"})
                continue
            print(f"== {part.number} {part.name}, up to {limit:.0f} s of {self.left:.0f} s", flush=True)
            running[part.name] = self.begin(part, limit - RESERVE if part.steps else limit)
        told = False
        try:
            while running:
                time.sleep(0.5)
                self.copy()
                spent = time.monotonic() - began
                for name in [name for name, process in running.items() if process.poll() is not None]:
                    self.ended(next(p for p in group if p.name == name), running.pop(name).returncode, told, spent)
                if spent > limit - (RESERVE if group[0].steps else 0) and not told:
                    told = True
                    for process in running.values():  # pytest and the benchmark say on SIGINT how far they came
                        process.send_signal(signal.SIGTERM if group[0].steps else signal.SIGINT)
                if spent > limit + PATIENCE:
                    for process in running.values():
                        process.kill()
        except KeyboardInterrupt:
            for process in running.values():
                process.terminate()
            for name, process in running.items():
                try:
                    process.wait(RESERVE)
                except subprocess.TimeoutExpired:
                    process.kill()
                self.ended(
                    next(p for p in group if p.name == name), process.returncode or 0, True, time.monotonic() - began
                )
            raise

    def begin(self, part: Part, seconds: float) -> subprocess.Popen:
        """Start a part."""
        if part.name == "tests":
            command = [sys.executable, "-m", *part.command]
        else:
            command = [sys.executable, "-m", "tests.benchmarks.gpu_part", part.name, "--seconds", f"{seconds:.0f}"]
            command += ["--dry-run"] if self.dry else []
        environment = {**os.environ, "RUNS": str(self.runs), "OUT": str(self.out)}
        environment.setdefault("TORCHINDUCTOR_CACHE_DIR", str(self.runs / "compiled"))  # compiled once for all parts
        with (self.logs / f"{part.name}.log").open("a", encoding="utf-8") as log:
            return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=subprocess.STDOUT)

    def ended(self, part: Part, code: int, asked: bool, seconds: float) -> None:
        """What there is to say of a part that has ended; one that trains has written its record itself."""
        failed = code != 0 and (part.steps or not asked)
        if failed or not part.steps:
            state = f"failed with {code}, see {part.name}.log" if failed else "cut off" if code else "done"
            self.record(part, {"state": state} | ({} if part.steps else {"seconds": seconds}))
        log = self.logs / f"{part.name}.log"
        told = log.read_bytes()[-50_000:] if log.exists() else b""
        (self.results / log.name).write_bytes(told)
        if failed or not part.steps:
            print("\n".join(told.decode(errors="replace").splitlines()[-12:]), flush=True)
        print(f"   {part.name}: {self.of(part).get('state', 'ended')}", flush=True)
        self.copy()

    def record(self, part: Part, facts: dict) -> None:
        """Keep what is known of a part, beside what was."""
        write_record(self.runs, part, facts)

    def of(self, part: Part) -> dict:
        """What is known of a part."""
        return read_record(self.runs, part)

    def copy(self) -> None:
        """Bring new results of these parts to OUT; what an earlier call has left there is not sent again."""
        names = ("table", *(part.name for part in self.parts))
        found = [p for p in self.results.iterdir() if p.name.startswith(names) and p.suffix != ".part"]
        now = sorted((p.name, p.stat().st_mtime_ns) for p in found)
        if now != self.copied:
            limits = {name.lower(): bytes_of(os.environ.get(name)) for name in ("MOST", "FILES", "TOTAL")}
            deliver(found, self.out, **limits)
            self.copied = now

    def close(self) -> bool:
        """Write and print the table, what earlier calls have done included; see :meth:`run`."""
        records = [json.loads(p.read_text(encoding="utf-8")) for p in (self.runs / "records").glob("*.json")]
        text = table(sorted(records, key=lambda record: record["part"]))
        (self.results / "table.md").write_text(text, encoding="utf-8")
        self.copy()
        print(f"\n{text}\nafter {time.monotonic() - self.began:.0f} s; results in {self.out}, states in {self.runs}")
        return not any(self.of(part).get("state", "").startswith("failed") for part in self.parts)


def read_record(runs: Path, part: Part) -> dict:
    """The record of a part, {} if there is none."""
    path = runs / "records" / f"{part.name}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def write_record(runs: Path, part: Part, facts: dict) -> None:
    """Add ``facts`` to the record of a part."""
    path = runs / "records" / f"{part.name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {"part": f"{part.number} {part.name}", **read_record(runs, part), **facts}
    path.write_text(json.dumps(content, indent=1), encoding="utf-8")


def main(argv: list[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.gpu_plan", description=__doc__.split("\n\n")[0])
    parser.add_argument("--dry-run", action="store_true", help="every part in miniature, on the processor")
    dry = parser.parse_args(argv).dry_run
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise SystemExit(f"error: not installed for {sys.executable}: {', '.join(missing)}")
    if dry:
        os.environ |= {"CUDA_VISIBLE_DEVICES": "", "RUNS": os.environ.get("RUNS") or "runs/gpu-dry"}
    else:
        import torch

        if not torch.cuda.is_available():
            print("error: PyTorch sees no CUDA device here; --dry-run rehearses on the processor", file=sys.stderr)
            raise SystemExit(3)
        print(torch.cuda.get_device_name(), "- torch", torch.__version__, flush=True)
    asked = os.environ.get("PARTS", "").split()
    parts = [
        miniature(part) if dry else part
        for part in plan()
        if not asked or str(part.number) in asked or part.name in asked
    ]
    if not parts:
        raise SystemExit(f"error: PARTS={' '.join(asked)} names no part that can be run here")
    if files := lacking(parts):
        raise SystemExit(f"error: not here: {', '.join(files)}")
    minutes = float(os.environ.get("MINUTES") or (60 if dry else 13))
    raise SystemExit(0 if Plan(parts, 60 * minutes, dry).run() else 1)


if __name__ == "__main__":
    main()
