"""The report of a check: one JSON file, rewritten after each section. Needs only Python itself."""

import json
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gpu_sections.claims import Verdict
from gpu_sections.findings import Findings
from gpu_sections.running import Ended, Section, verdicts_of

NOT_REACHED = Ended("not run", 0.0, "not reached", Findings({}, {}, {}))


class Report:
    """Ends of sections, and the verdicts that follow.

    Args:
        path: the file. head: what it says about the whole run. device: "cuda" or "cpu". sections: all of them.
    """

    def __init__(self, path: Path, head: dict[str, Any], device: str, sections: Sequence[Section]) -> None:
        self._path, self._head, self._device, self._sections = path, head, device, sections
        self._ends: dict[str, Ended] = {}
        self._write()

    def add(self, section: Section, ended: Ended) -> None:
        """Add a section's end, and rewrite the file."""
        self._ends[section.name] = ended
        self._write()

    @property
    def verdicts(self) -> list[Verdict]:
        """Return the verdicts on all claims; those of sections that did not end are `not run`."""
        ends = [(section, self._ends.get(section.name, NOT_REACHED)) for section in self._sections]
        return [verdict for section, ended in ends for verdict in verdicts_of(section, ended, self._device)]

    @property
    def counts(self) -> dict[str, int]:
        """Return the number of claims by verdict."""
        found = Counter(each.verdict for each in self.verdicts)
        return {word: found[word] for word in ("holds", "fails", "not run")}

    def _write(self) -> None:
        content = {
            **self._head,
            "counts": self.counts,
            "verdicts": [each._asdict() for each in self.verdicts],
            "sections": [
                {
                    "name": name,
                    "status": ended.status,
                    "seconds": round(ended.seconds, 1),
                    "reason": ended.reason,
                    "facts": ended.findings.facts,
                    "log": ended.log,
                }
                for name, ended in self._ends.items()
            ],
        }
        spare = self._path.with_suffix(f".{os.getpid()}.tmp")
        spare.write_text(json.dumps(content, indent=1) + "\n")
        os.replace(spare, self._path)
