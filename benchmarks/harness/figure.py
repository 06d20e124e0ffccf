"""Draw the ratios as bars, each with its goal."""

import io
from pathlib import Path
from typing import Any

from PIL import Image

from harness.results import number

COLOURS = 64
"""Colours of the figure's palette, which makes the file in the repository a third of the size."""


def draw(rows: list[dict[str, Any]], path: Path, title: str) -> None:
    """Draw all ratios as bars on a logarithmic axis, with a mark at the goal and a whisker for the spread, as PNG.

    Nothing is written if no row has a ratio.

    Raises:
        ImportError: matplotlib is not installed.
    """
    import matplotlib

    matplotlib.use("Agg")  # before pyplot is imported, which would look for a display
    from matplotlib import pyplot

    shown = [row for row in rows if row["ratio"] is not None]
    if not shown:
        return
    figure, axes = pyplot.subplots(figsize=(11, 1.2 + 0.42 * len(shown)))
    for place, row in enumerate(reversed(shown)):
        axes.barh(place, row["ratio"], height=0.62, color=colour(row))
        axes.plot(row["spread"], [place, place], color="black", linewidth=1)
        if row["goal"] is not None:
            axes.plot([row["goal"]] * 2, [place - 0.42, place + 0.42], color="black", linewidth=2.5)
        text = f" {row['ratio']:.2f}x   {number(row['ours'])} vs {number(row['theirs'])} {row['unit']}"
        axes.text(max(row["ratio"], row["spread"][1], row["goal"] or 0), place, text, va="center", fontsize=8)
    axes.set_yticks(range(len(shown)), [f"{row['work']}\nvs {row['peer']}" for row in reversed(shown)], fontsize=7.5)
    axes.set_xscale("log")
    largest = max(max(row["ratio"], row["goal"] or 0) for row in shown)
    axes.set_xlim(min(0.5, *(row["ratio"] * 0.8 for row in shown)), largest * 12)
    axes.axvline(1, color="grey", linewidth=0.8)
    axes.set_xlabel("times as fast as the peer (logarithmic); thick mark: goal; thin line: smallest to largest turn")
    axes.set_title(title, fontsize=8.5)
    axes.margins(y=0.01)
    drawn = io.BytesIO()
    figure.savefig(drawn, dpi=130, bbox_inches="tight")  # "tight" keeps long names at the left complete
    Image.open(drawn).convert("RGB").quantize(COLOURS).save(path, "PNG", optimize=True)
    pyplot.close(figure)


def colour(row: dict[str, Any]) -> str:
    """Return blue if the goal is met, red if it is missed, grey if there is none."""
    return {True: "#3b75af", False: "#c44e52", None: "#b0b0b0"}[row["met"]]
