"""Read the code blocks of a Markdown page, and run those of one page in order.

    python -m tests.docs.blocks PAGE       (in the folder where the blocks shall run)

`shell` and `python` blocks are run. The Python blocks of a page share one namespace, as in a notebook. HTML comments on
lines of their own direct the run:

* `<!-- not run: REASON -->` right before a block leaves it out.
* `<!-- file: NAME -->` right before a block writes it to a file.
* `<!-- setup: LINES -->` and `<!-- setup python: LINES -->` run lines that the page does not show.
"""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

RUN = ("shell", "python")
_PIECE = re.compile(
    r"^<!--\s*(?P<kind>not run|file|setup python|setup):\s*(?P<value>.*?)\s*-->\n(?P<gap>\n*)"
    r"|^(?P<fence>```+)(?P<language>[^\n]*)\n(?P<code>.*?)^(?P=fence)[ \t]*$",
    re.DOTALL | re.MULTILINE,
)


class Block(NamedTuple):
    """A piece of a page that is run, written to a file, or neither.

    Attributes:
        line: number of its first line of code in the page.
        language: `shell`, `python`, or another that is not run.
        code: its lines.
        file: name of the file that it is written to; empty if none.
        reason: why it is not run; empty if it is, or if its language is none that is run.
    """

    line: int
    language: str
    code: str
    file: str = ""
    reason: str = ""

    @property
    def runs(self) -> bool:
        """Return whether the block is run."""
        return self.language in RUN and not self.reason and not self.file


def read_blocks(text: str) -> Iterator[Block]:
    """Yield the blocks of a page in order, hidden ones included."""
    directive, end = ("", ""), -1
    for piece in _PIECE.finditer(text):
        kind, value = piece["kind"], piece["value"]
        if kind and kind.startswith("setup"):
            line = text.count("\n", 0, piece.start("value")) + 1
            yield Block(line, "python" if kind == "setup python" else "shell", value + "\n")
        elif kind:
            directive, end = (kind, value), piece.end()
        else:
            kind, value = directive if end == piece.start() else ("", "")
            line = text.count("\n", 0, piece.start("code")) + 1
            file, reason = value * (kind == "file"), value * (kind == "not run")
            yield Block(line, piece["language"].strip(), piece["code"], file, reason)


def run_page(page: Path) -> None:
    """Run the blocks of a page in the current folder; the first one that fails ends the process."""
    names: dict[str, Any] = {"__name__": "__main__"}
    for block in read_blocks(page.read_text()):
        if block.file:
            Path(block.file).write_text(block.code)
        elif block.runs:
            print(f"--- {page.name}:{block.line}\n{block.code}", flush=True)
            if block.language == "shell":
                subprocess.run(["bash", "-euo", "pipefail", "-c", block.code], check=True)
            else:
                # Newlines before the code make line numbers in tracebacks those of the page.
                exec(compile("\n" * (block.line - 1) + block.code, page.name, "exec"), names)


if __name__ == "__main__":
    run_page(Path(sys.argv[1]))
