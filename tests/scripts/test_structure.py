"""The script that measures the structure of the package."""

import json
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "scripts" / "structure.py"
FILES = {
    "__init__.py": "",
    "low.py": "import os\n",
    "front/__init__.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from house.front.door import Door\n",
    "front/door.py": "from house.front import lock\nclass Door:\n    def open(self):\n        from ..back import yard",
    "front/lock.py": "from house.front.door import Door  # a circle of files\nfrom house.low import os\n",
    "back/__init__.py": "",
    "back/yard.py": "import house.front.door\n",
}


def test_rooms_arrows_and_circles_are_counted(tmp_path: Path) -> None:
    for name, text in FILES.items():
        path = tmp_path / "house" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    command = [sys.executable, str(SCRIPT), str(tmp_path / "house"), "--json"]
    found = json.loads(subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout)
    assert found["arrows by room"] == {"back": ["front"], "front": ["back", "low"], "house": [], "low": []}
    assert (found["rooms"], found["arrows"], found["files"], found["functions"]) == (4, 3, 7, 1)
    assert found["circles of rooms"] == [["back", "front"]]
    assert found["circles of files in a room"] == [["house.front.door", "house.front.lock"]]
    assert found["lines"] == sum(text.count("\n") for text in FILES.values())
    assert found["comments per 100 lines"] == round(100 / found["lines"], 2)
