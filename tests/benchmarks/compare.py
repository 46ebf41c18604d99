"""Is a checkpoint better than the shipped one? ``python -m tests.benchmarks.compare runs/mine/best.safetensors``.

Both restore the same pictures, blurred in the same way. The new one is called better if PSNR and LPIPS both are.
"""

import argparse
from pathlib import Path

from helpers.data import load_split
from helpers.engine import commands
from helpers.engine.folders import write_json
from helpers.metrics import HIGHER_IS_BETTER, INFINITE, evaluate, summary
from helpers.pairs import Pairs
from helpers.perceptual import load_lpips
from helpers.restorer import Restorer
from tests.benchmarks import report


def compare(checkpoint: Path | None, data: Path | None = None, limit: int | None = None) -> dict:
    """The measures of both on the test set, and which are better in the new one."""
    rows, lpips = [], None
    images = load_split(data, "test", limit)
    for name, path in (("shipped", None), ("new", checkpoint)):
        restorer = Restorer(path)
        lpips = lpips or load_lpips(device=restorer.device)
        pairs = Pairs(images, restorer.about.get("degradation", "celebablur"), thresholds=restorer.thresholds)
        means = summary(evaluate(restorer.model, pairs, lpips, with_input=False)).loc["restored"]
        rows.append({"checkpoint": name, "images": len(images), **{k: float(v) for k, v in means.items()}})
    better = []
    for name in [key for key in rows[0] if key not in ("checkpoint", "images", INFINITE)]:
        gain = rows[1][name] - rows[0][name]
        if gain > 0 if HIGHER_IS_BETTER[name.split(" ")[0]] else gain < 0:
            better.append(name)
    wins = "PSNR" in better and any(name.startswith("LPIPS") for name in better)
    return {"rows": rows, "better in": better, "better": wins}


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.compare", description=__doc__.split("\n\n")[0])
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--data", type=Path, help="folder of photographs, or of train/, val/ and test/")
    parser.add_argument("--limit", type=commands.positive_int, help="use only the first so many images")
    parser.add_argument("--out", type=Path, help="a JSON file for the result")
    args = parser.parse_args(arguments)
    with commands.exit_on_error():
        result = compare(args.checkpoint, args.data, args.limit)
    if args.out:
        write_json(args.out, result)
    print(report.table(result["rows"]))
    verdict = "is BETTER than" if result["better"] else "is not better than"
    print(f"the new checkpoint {verdict} the shipped one (better in: {', '.join(result['better in']) or 'nothing'})")


if __name__ == "__main__":
    main()
