"""Sentences that claim an effect name the row of the record that bears them out.

A marker behind the sentence, which no reader sees, names one row or several of ``effects`` in
``data/results/hypotheses.json`` (see :func:`helpers.experiments.results.effects`)::

    Without the edge map the PSNR is not distinguishable from that with it. <!-- effect: edges -->
    In the exploration it lowers SSIM as well. <!-- effect: edges-none/SSIM -->

What is checked (:func:`complaints`):

* the row is there;
* a hypothesis that was decided is told as an effect, one that was not is told with the words "not distinguishable";
* a row of the exploration follows its interval, and its paragraph says that it explores;
* every number of decibels, and every number with a sign, is the row's difference, as it is rounded in the text, and
  with its sign if it has one; numbers in square brackets are the ends of the interval.

In a markdown cell with the tag ``effects`` every sentence needs a marker.
"""

import re

from helpers.experiments.results import UNCLEAR

MARKER = re.compile(r"<!--\s*effect:\s*(.*?)\s*-->", re.DOTALL)
NUMBER = re.compile(r"(?<![\w.])(?P<sign>[+−-]?)(?P<value>\d+(?:\.\d+)?)(?P<decibels>\s*dB\b)?")
ENDS = re.compile(r"(?<=[.!?])[*_`)\"]*\s+(?=[A-Z0-9*_`\[(\"])")


def paragraphs(markdown: str) -> list[str]:
    """Blocks between empty lines, items of lists each by itself; headings are left out."""
    blocks = re.split(r"\n\s*\n|\n(?=\s*(?:[-*]|\d+\.)\s)", markdown)
    return [b.strip() for b in blocks if b.strip() and not b.lstrip().startswith("#")]


def sentences(paragraph: str) -> list[tuple[str, list[str]]]:
    """Each sentence of a paragraph with the rows that its marker names."""
    found, start = [], 0
    for marker in MARKER.finditer(paragraph):
        *before, last = ENDS.split(paragraph[start : marker.start()].strip())
        rows = [row.strip() for row in marker[1].split(";")]
        found += [(s, []) for s in before] + [(last, rows)]
        start = marker.end()
    rest = paragraph[start:].strip(" \n.*_")
    return found + [(s, []) for s in ENDS.split(rest) if s]


def complaints(markdown: str, effects: dict[str, dict], every: bool = False) -> list[str]:
    """What is wrong with the claims of a markdown cell; [] where nothing is.

    Parameters
    ----------
    effects : the rows of the record
    every : whether a sentence without a marker is wrong too
    """
    found = []
    for paragraph in paragraphs(markdown):
        for sentence, names in sentences(paragraph):
            if every and not names:
                found.append(f"no row is named: {sentence}")
            unknown = [name for name in names if name not in effects]
            found += [f"there is no row {name!r}: {sentence}" for name in unknown]
            rows = {name: effects[name] for name in names if name not in unknown}
            for name, row in rows.items():
                found += [f"{name}: {what}: {sentence}" for what in _against(row, sentence, paragraph)]
            if rows:
                found += [f"{what} is in no row of {names}: {sentence}" for what in _numbers(sentence, rows.values())]
    return found


def _against(row: dict, sentence: str, paragraph: str) -> list[str]:
    """Where a sentence says more, or less, than its row."""
    holds_zero = row["low"] <= 0 <= row["high"]
    unclear = row["verdict"] == UNCLEAR if "verdict" in row else holds_zero
    said, found = UNCLEAR in " ".join(sentence.split()), []
    if unclear and not said:
        found.append(f"the record does not decide it, so say {UNCLEAR!r}")
    if not unclear and said:
        found.append("the record does decide it")
    if not unclear and holds_zero:
        found.append("its interval holds 0")
    if row.get("exploration") and "explor" not in paragraph.lower():
        found.append("it is exploration, and the paragraph does not say so")
    return found


def _numbers(sentence: str, rows) -> list[str]:
    """Decibels and signed numbers of a sentence that none of its rows has; the ends stand in square brackets."""
    found = []
    for number in NUMBER.finditer(sentence):
        sign, text = number["sign"].replace("−", "-"), number["value"]
        before = sentence[: number.start()]
        in_brackets = before.rfind("[") > before.rfind("]")
        if not sign and not number["decibels"] and not in_brackets:
            continue
        known = [row[k] for row in rows for k in (("low", "high") if in_brackets else ("difference",))]
        signed, digits = sign or in_brackets, len(text.partition(".")[2])
        if not any(abs(round(k if signed else abs(k), digits) - float(sign + text)) < 1e-9 for k in known):
            found.append(number[0].strip())
    return found
