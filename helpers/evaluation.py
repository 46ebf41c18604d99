"""The table of a checkpoint beside the blurred input and Table 1 of the thesis (section 3.3).

::

    python -m helpers.evaluation                                              # shipped model, shipped test faces
    python -m helpers.evaluation --checkpoint runs/mine/best.safetensors --data my/photos --split train
"""

from helpers.data import SPLITS, load_split
from helpers.engine import commands
from helpers.metrics import INFINITE, THESIS_TABLE_1, evaluate, summary
from helpers.pairs import Pairs
from helpers.perceptual import load_lpips
from helpers.restorer import Restorer


def report(checkpoint: str | None, data: str | None, split: str, limit: int | None) -> str:
    """The table in Markdown: blurred input, restored, Table 1; below it how many infinite PSNR were left out.

    Parameters
    ----------
    checkpoint : a .safetensors file, or None for the shipped model
    data, split, limit : see :func:`helpers.data.load_split`

    Raises
    ------
    ImageError, CheckpointError
        for images or a checkpoint that cannot be used
    """
    restorer, images = Restorer(checkpoint), load_split(data, split, limit)
    pairs = Pairs(images, restorer.about.get("degradation", "celebablur"), thresholds=restorer.thresholds)
    table = summary(evaluate(restorer.model, pairs, load_lpips(device=restorer.device), progress=True))
    columns = [column for column in table.columns if column != INFINITE]
    rows = [["", *columns], ["---"] * (len(columns) + 1)]
    rows += [[name, *(f"{row[c]:.{2 if c == 'PSNR' else 4}f}" for c in columns)] for name, row in table.iterrows()]
    rows.append(["thesis, Table 1", *(f"{low:g}–{high:g}" for low, high in THESIS_TABLE_1.values())])
    lines = [f"{len(images)} {split} images, {restorer}", *(f"| {' | '.join(row)} |" for row in rows)]
    for name, count in table[INFINITE].dropna().items() if INFINITE in table else ():
        lines.append(f"{name}: {count:.0f} images equal to the sharp ones, left out of the mean of PSNR")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> None:
    """The command line; an error that the user can mend ends it with one sentence."""
    parser = commands.bare_parser("helpers.evaluation", __doc__)
    parser.add_argument("--checkpoint", help="a .safetensors file; the shipped model by default")
    parser.add_argument(
        "--data", help="folder of photographs, or of train/, val/ and test/; the shipped faces by default"
    )
    parser.add_argument("--split", choices=SPLITS, default="test")
    parser.add_argument("--limit", type=commands.positive_int, help="use only the first so many images")
    args = parser.parse_args(arguments)
    with commands.exit_on_error():
        print(report(args.checkpoint, args.data, args.split, args.limit))


if __name__ == "__main__":
    main()
