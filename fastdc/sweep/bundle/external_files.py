"""Pack the files of external sets, and find them again where a bundle is read."""

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath

from fastdc.beton.manifest import manifest_path
from fastdc.beton.verify import verify_beton
from fastdc.common.errors import BundleError, ConfigError, FastDCError, StoreError
from fastdc.common.files import check_file
from fastdc.common.text import format_bytes, plain
from fastdc.subsets.external import content_of
from fastdc.subsets.external_names import is_external, parse_external, with_path
from fastdc.subsets.lists import list_path
from fastdc.sweep.bundle.bundle_archive import Packed, read_archive
from fastdc.sweep.bundle.bundle_index import ExternalFacts
from fastdc.sweep.bundle.read_bundle import Bundle
from fastdc.sweep.store.row_lines import Row

MAX_LIST = 16 << 20
"""Most bytes of a list or scores that is packed in any case; a larger file may be a network's checkpoint."""

GIVE = "give the file itself to reproduce --external"

# ---------------------------------------------------------------- pack


def pack_external(rows: Iterable[Row], with_subsets: bool) -> Packed:
    """Pack lists and scores that rows were trained on, manifests of betons, and betons if `with_subsets`.

    `facts` is a list of `ExternalFacts`.

    Raises:
        StoreError: `with_subsets`, and a beton is missing.
    """
    packed, betons = Packed({}, [], []), dict[str, int]()
    labels = [row["label"] for row in rows if row["state"] == "done" and row["label"].get("content")]
    for name, kind, path, content in sorted({_place(label) for label in labels}):
        facts = ExternalFacts(name=name, kind=kind, path=path, content=content, file=None)
        if (problem := problem_of(facts)) is not None:
            if with_subsets and not Path(path).is_file():
                raise StoreError(f"{path}: missing, and rows were trained on it; leave out --with-subsets")
            packed.notes.append(f"external set {name}: {problem}; it is not packed")
            packed.facts.append(facts)
        else:
            _pack_file(packed, facts, with_subsets)
            if facts.kind == "beton" and not with_subsets:
                betons[name] = Path(path).stat().st_size
    if betons:
        named = ", ".join(f"{name} ({format_bytes(size)})" for name, size in betons.items())
        packed.notes.append(f"not packed: the betons of {named}; --with-subsets packs them, or {GIVE}")
    return packed


def _pack_file(packed: Packed, facts: ExternalFacts, with_subsets: bool) -> None:
    source, file = Path(facts.path), _name_in_bundle(facts)
    size = source.stat().st_size
    if facts.kind == "beton":
        beside = (manifest_path(file), manifest_path(source)), (list_path(file), list_path(source))
        packed.members.update({str(inside): each for inside, each in beside if each.is_file()})
    elif size > MAX_LIST and not with_subsets:
        packed.notes.append(
            f"external set {facts.name}: {source} has {format_bytes(size)}; only --with-subsets packs it"
        )
    whole = with_subsets or (facts.kind != "beton" and size <= MAX_LIST)
    if whole:
        packed.members[str(file)] = source
    packed.facts.append(facts.model_copy(update={"file": str(file) if whole else None}))


def _name_in_bundle(facts: ExternalFacts) -> Path:
    """Return a name that depends on the content, because files in several folders may have one name."""
    return Path("external", facts.content[:12], re.sub(r"[:\\]", "_", Path(facts.path).name))


def _place(label: dict[str, str]) -> tuple[str, str, str, str]:
    return label["method"], label["kind"], label["file"], label["content"]


def problem_of(facts: ExternalFacts) -> str | None:
    """Return why the file at the path of an external set is missing, changed or damaged; None if it serves."""
    path = Path(facts.path)
    try:
        check_file(path, f"the file of external set {facts.name}", ConfigError)
        found = content_of(facts.kind, path)
    except (FastDCError, OSError) as error:
        return str(error)
    if found != facts.content:
        return f"{path}: has content {found}, expected {facts.content}"
    damage = verify_beton(path, deep=True) if facts.kind == "beton" else []
    return f"{path}: {damage[0]}" if damage else None


def facts_of(text: str, external: Iterable[ExternalFacts]) -> list[ExternalFacts]:
    """Return the files that an item of `methods` may mean, packed ones first; empty for a method.

    There are several if the file changed between sweeps.
    """
    if not is_external(text):
        return []
    named = parse_external(text)
    found = [each for each in external if each.name == named.name and _is_at(each, str(named.path))]
    return sorted(found, key=lambda each: each.file is None)


def _is_at(facts: ExternalFacts, path: str) -> bool:
    return path in (facts.path, facts.file) or facts.path.endswith(f"/{path}")


def in_bundle(methods: Iterable[str], external: Sequence[ExternalFacts]) -> list[str]:
    """Return the items of `methods` with packed files named by their place in the bundle."""
    return [_in_bundle(text, facts_of(text, external)) for text in methods]


def _in_bundle(text: str, found: Sequence[ExternalFacts]) -> str:
    return with_path(text, Path(found[0].file)) if found and found[0].file is not None else text


# ---------------------------------------------------------------- find again


def find_external(bundle: Bundle, paths: Iterable[Path]) -> dict[str, Path]:
    """Return the given files of external sets by their content.

    Raises:
        ConfigError: a file is none of them, or missing.
        BetonError, ManifestError: a beton is damaged.
    """
    found, wanted = dict[str, Path](), {each.content: each.name for each in bundle.index.external}
    for path in paths:
        check_file(path, "the file of an external set", ConfigError)
        content = content_of("beton" if path.suffix == ".beton" else "list", path)
        if content not in wanted:
            expected = (
                ", ".join(f"{content} ({name})" for content, name in wanted.items()) or "no file: it has no such set"
            )
            raise ConfigError(plain(f"--external {path}: has content {content}, expected {expected}"))
        found[content] = path
    return found


def _here(facts: ExternalFacts, given: Mapping[str, Path]) -> ExternalFacts:
    """Return the facts with the path of a given file of their content."""
    return facts.model_copy(update={"path": str(given.get(facts.content, facts.path))})


def check_external(bundle: Bundle, given: Mapping[str, Path]) -> tuple[list[str], int]:
    """Return a line for each file that is missing or has changed, and how many of these the bundle does not hold.

    Args:
        given: see `find_external`.
    """
    lines, lost = [], 0
    for facts in bundle.index.external:
        problem = problem_of(_here(facts, given))
        if problem is not None:
            lost += facts.file is None
            lacks = f"the bundle lacks it, content {facts.content}; {GIVE}"
            instead = f"the bundle has {facts.file}" if facts.file else lacks
            lines.append(plain(f"external set {facts.name}: {problem}; {instead}"))
    return lines, lost


def place_external(
    bundle: Bundle, methods: Sequence[str], folder: Path, given: Mapping[str, Path]
) -> tuple[tuple[str, ...], dict[str, str]]:
    """Return the items of `methods` with the files of external sets where they are, and why sets have none, by name.

    A file that is missing or has changed is taken from the bundle and unpacked below `folder`.

    Args:
        given: see `find_external`.

    Raises:
        BundleError: the archive was changed meanwhile.
    """
    placed, lost = [], dict[str, str]()
    for text in methods:
        found = facts_of(text, bundle.index.external)
        problems = {here: problem_of(here) for here in (_here(each, given) for each in found)}
        sound = next((Path(each.path) for each, problem in problems.items() if problem is None), None)
        packed = next((each.file for each in found if each.file is not None), None)
        if sound is None and packed is not None:
            sound = folder / packed
            if not sound.exists():
                _unpack(bundle, packed, folder)
        if found and sound is None:
            lost[found[0].name] = f"{next(iter(problems.values()))}; {GIVE}"
        else:
            placed.append(text if sound is None else with_path(text, sound))
    return tuple(placed), lost


def _unpack(bundle: Bundle, file: str, folder: Path) -> None:
    """Write a packed file and those beside it to their place below `folder`."""
    parent = PurePosixPath(file).parent
    (folder / parent).mkdir(parents=True)
    for member in read_archive(bundle.path):
        if PurePosixPath(member.name).parent != parent:
            continue
        digest = hashlib.sha256()
        with (folder / member.name).open("wb") as target:
            for piece in member.pieces:
                digest.update(piece)
                target.write(piece)
        facts = bundle.index.files.get(member.name)
        if facts is None or digest.hexdigest() != facts.sha256:
            raise BundleError(f"{bundle.path}: {plain(member.name)[:80]}: was changed while it was read; start again")
