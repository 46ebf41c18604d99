"""Make the course's portraits: render them, pack them into zip archives, preview them.

    python data/make_faces.py --out data/faces --train 6600 --val 400 --test 400 --workers 2
    python data/make_faces.py --preview 48 sheet.png
    python data/make_faces.py --face 7 --split test face.png
    python data/make_faces.py --out my/people --train 1000 --val 150 --test 200 --shots 2   # two more photographs each

Rendering can be stopped at any time; the same command carries on where it stopped.
"""

import argparse
import csv
import json
import multiprocessing
import os
import shutil
import sys
import zipfile
from pathlib import Path

# One thread per process: several processes side by side are faster than several threads in each.
for _variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_variable, "1")

import cv2  # noqa: E402
import numpy as np  # noqa: E402

sys.path.insert(0, str(Path(__file__).resolve().parent))

from renderer.portrait import SPLITS, render_face  # noqa: E402

__all__ = ["SPLITS", "render_face"]

WEBP_QUALITY = 92
ZIP_DATE = (2026, 1, 1, 0, 0, 0)  # fixed, so that packing twice gives the same bytes


def encode(image):
    """RGB picture to the bytes of a WebP file."""
    good, data = cv2.imencode(".webp", image[..., ::-1], [cv2.IMWRITE_WEBP_QUALITY, WEBP_QUALITY])
    if not good:
        raise RuntimeError("OpenCV could not write WebP")
    return data.tobytes()


def write_whole(path, data):
    """Write bytes to a file that is either complete or absent, even if the program is killed."""
    partial = path.with_name(f"{path.name}.{os.getpid()}.part")
    partial.write_bytes(data)
    partial.replace(path)


def render_to_folder(job):
    """Worker: render one face into the working folder, picture first and parameters last."""
    folder, split, index, shot = job
    cv2.setNumThreads(1)
    image, params = render_face(index, split, shot)
    write_whole(folder / f"{name_of(index, shot)}.webp", encode(image))
    write_whole(folder / f"{name_of(index, shot)}.json", json.dumps(params).encode())


def name_of(index, shot):
    """What the files of a picture are called: the person's index, and the number of a further photograph."""
    return f"{index:05d}" + (f"_{shot}" if shot else "")


def pictures_of(count, shots):
    """(index, shot) of each picture: the course's face of each person, or only the `shots` further photographs."""
    return [(index, shot) for index in range(count) for shot in (range(1, shots + 1) if shots else (0,))]


def render_split(split, pictures, work, workers):
    """Render the faces of a split that are not in the working folder yet."""
    from tqdm import tqdm

    folder = work / split
    folder.mkdir(parents=True, exist_ok=True)
    jobs = [(folder, split, *one) for one in pictures if not (folder / f"{name_of(*one)}.json").exists()]
    bar = tqdm(total=len(pictures), initial=len(pictures) - len(jobs), desc=split, unit="face")
    if workers <= 1:
        for job in jobs:
            render_to_folder(job)
            bar.update()
    else:
        with multiprocessing.get_context("spawn").Pool(workers) as pool:
            for _ in pool.imap_unordered(render_to_folder, jobs, chunksize=8):
                bar.update()
    bar.close()


def pack_split(split, pictures, work, out):
    """Store the pictures of a split in one zip (not compressed again); returns the rows for the table."""
    rows = []
    partial = out / f"{split}.zip.part"
    with zipfile.ZipFile(partial, "w", zipfile.ZIP_STORED) as archive:
        for index, shot in pictures:
            name = name_of(index, shot)
            entry = zipfile.ZipInfo(f"{name}.webp", date_time=ZIP_DATE)
            archive.writestr(entry, (work / split / f"{name}.webp").read_bytes())
            rows.append(json.loads((work / split / f"{name}.json").read_text(encoding="utf-8")))
    partial.replace(out / f"{split}.zip")
    return rows


def make_dataset(out, counts, workers, shots=0):
    """Render and pack all splits, write parameters.csv, remove the working folder."""
    out.mkdir(parents=True, exist_ok=True)
    work = out / "unfinished"
    pictures = {split: pictures_of(count, shots) for split, count in counts.items()}
    for split, some in pictures.items():
        render_split(split, some, work, workers)
    rows = []
    for split, some in pictures.items():
        rows += pack_split(split, some, work, out)
    with open(out / "parameters.csv", "w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        for row in rows:
            writer.writerow({key: round(v, 3) if isinstance(v, float) else v for key, v in row.items()})
    shutil.rmtree(work)
    size = sum(file.stat().st_size for file in out.iterdir() if file.is_file())
    print(f"{len(rows)} faces, {size / 1e6:.1f} MB in {out}")


def contact_sheet(count, split, columns=8):
    """Picture of the first `count` faces of a split, side by side."""
    faces = [render_face(k, split)[0] for k in range(count)]
    blank = np.full_like(faces[0], 255)
    faces += [blank] * (-count % columns)
    return np.vstack([np.hstack(faces[k : k + columns]) for k in range(0, len(faces), columns)])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="folder for the archives and parameters.csv")
    for split, count in (("train", 6600), ("val", 400), ("test", 400)):
        parser.add_argument(f"--{split}", type=int, default=count, help=f"number of {split} faces ({count})")
    parser.add_argument("--shots", type=int, default=0, help="further photographs of each person, instead of the first")
    parser.add_argument("--workers", type=int, default=2, help="processes (2)")
    parser.add_argument("--preview", nargs=2, metavar=("N", "FILE"), help="write a contact sheet of N faces")
    parser.add_argument("--face", type=int, metavar="K", help="render only face K into the file named last")
    parser.add_argument("--split", choices=list(SPLITS), default="train", help="split of --preview and --face")
    parser.add_argument("file", nargs="?", help="picture file for --face")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    if options.preview:
        cv2.imwrite(options.preview[1], contact_sheet(int(options.preview[0]), options.split)[..., ::-1])
    elif options.face is not None:
        if not options.file:
            parser.error("--face needs a file name")
        image, params = render_face(options.face, options.split)
        cv2.imwrite(options.file, image[..., ::-1])
        print(json.dumps(params, indent=1))
    elif options.out:
        make_dataset(options.out, {split: getattr(options, split) for split in SPLITS}, options.workers, options.shots)
    else:
        parser.error("give --out, --preview or --face")


if __name__ == "__main__":
    main()
