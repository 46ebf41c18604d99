"""MathJax 3, fetched once from npm and kept in ``build/vendor``; pages load it from their own folder."""

import base64
import hashlib
import json
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path

from notebooks.book import BookError

PACKAGE = "mathjax@3.2.2"
SHA512 = "Bt+SSVU8eBG27zChVewOicYs7Xsdt40qm4+UpHyX7k0/O9NliPc+x77k1/FEsPsjKPZGJvtRZM1vO+geW0OhGw=="
# The script with every extension in it, and its fonts. Speech, menus in other languages and so on are left out.
WANTED = ("package/LICENSE", "package/es5/tex-chtml-full.js", "package/es5/output/chtml/fonts/woff-v2/")


def mathjax(cache: Path) -> Path:
    """The folder ``cache/mathjax`` with the script and the fonts; fetched if it is not there yet.

    Raises
    ------
    BookError
        where there is neither a copy nor a way to fetch one, or where the package is not the one that is expected
    """
    folder = cache / "mathjax"
    if (folder / "tex-chtml-full.js").is_file():
        return folder
    with tempfile.TemporaryDirectory() as place:
        package = _pack(Path(place))
        digest = base64.b64encode(hashlib.sha512(package.read_bytes()).digest()).decode()
        if digest != SHA512:
            raise BookError(f"{PACKAGE} from npm is not the package that the book was made with")
        new = Path(place) / "mathjax"
        with tarfile.open(package) as archive:
            for member in archive:
                if member.isfile() and member.name.startswith(WANTED):
                    target = new / member.name.removeprefix("package/").removeprefix("es5/")
                    target.parent.mkdir(parents=True, exist_ok=True)
                    target.write_bytes(archive.extractfile(member).read())
        folder.parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(new, folder, dirs_exist_ok=True)
    return folder


def _pack(place: Path) -> Path:
    """The package's file, by npm's own client."""
    npm = shutil.which("npm")
    if npm is None:
        raise BookError(f"npm is needed once, to fetch {PACKAGE}; install Node.js, or copy build/vendor from elsewhere")
    done = subprocess.run([npm, "pack", "--json", PACKAGE], cwd=place, capture_output=True, text=True, encoding="utf-8")
    if done.returncode:
        raise BookError(f"npm could not fetch {PACKAGE}: {(done.stderr or done.stdout).strip()[-300:]}")
    return place / json.loads(done.stdout)[0]["filename"]
