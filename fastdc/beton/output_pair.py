"""Reserve the place of a beton and its manifest: checks before any work, one writer at a time, no half-written pair."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO

from filelock import Timeout

from fastdc.beton.manifest import MANIFEST_OPENING, manifest_path, parse_manifest
from fastdc.beton.reader import inspect_beton
from fastdc.common.errors import BetonError, ManifestError, OutputError, disk_full, is_disk_full
from fastdc.common.files import atomic_file, check_not_input, check_output, find_temporaries, remove_temporaries
from fastdc.common.locks import locked


def check_beton_output(out: Path, force: bool, inputs: Sequence[Path] = ()) -> None:
    """Refuse, before any work is done, a beton that cannot or should not be written. Every writer calls this first.

    Args:
        out: the beton to write; its manifest X.json goes beside it.
        force: whether an existing file may be replaced.
        inputs: what the command reads (betons, image folders, archives). Neither these nor the manifests of betons
            among them are ever replaced, even with `force`. An X.json that is not a manifest never is either.

    Raises:
        OutputError: see `check_output`. Also if `out` does not end in .beton, since two betons of one stem would share
            a manifest. Also if the manifest would replace an input, a folder or a file that is not a manifest; or,
            without `force`, the manifest of a beton that has been moved away.
    """
    out = Path(out)
    protected = _with_manifests(inputs)
    check_not_input(out, protected)
    if out.suffix != ".beton" and not out.is_dir():
        better = out.with_suffix(".beton") if out.suffix == ".json" else out.with_name(f"{out.name}.beton")
        reason = "is the name of a manifest" if out.suffix == ".json" else "does not end in .beton"
        raise OutputError(f"{out}: {reason}, expected a name such as {better.name}; use that name")
    check_output(out, force)
    check_not_input(manifest_path(out), protected)
    _check_manifest_place(out, force)


def _with_manifests(inputs: Sequence[Path]) -> list[Path]:
    """Return the inputs and the manifest paths of the betons among them.

    The X.json beside an archive X.tar is not protected, because it does not belong to the archive.
    """
    files = [Path(given) for given in inputs]
    return [*files, *(manifest_path(file) for file in files if _is_beton(file))]


def _is_beton(path: Path) -> bool:
    try:
        return inspect_beton(path)[0] is not None
    except BetonError:
        return False


def _check_manifest_place(out: Path, force: bool) -> None:
    """Refuse to replace an X.json that is not this beton's manifest.

    It may be unrelated data, such as annotations, which even `force` does not replace. It may be the manifest of a
    beton that was renamed. A manifest left by a killed run of the same command may be replaced; it is beside the
    temporary file of its beton.
    """
    path = manifest_path(out)
    if path.is_dir():
        raise OutputError(f"{path}: is a folder, but the manifest has to go there; choose another name")
    if not path.exists():
        return
    try:
        parse_manifest(path)
    except ManifestError as error:
        if force and _opens_as_manifest(path):
            return
        raise OutputError(f"{path}: exists and is not a fastdc manifest; move it, or choose another name") from error
    if force:
        return
    if not _list_leftovers(out):
        raise OutputError(
            f"{path}: is the manifest of a beton that is not at {out.name} (any more); if you renamed that beton, "
            "rename its manifest too, else add --force to replace it"
        )


def _opens_as_manifest(path: Path) -> bool:
    """Return whether a file that cannot be parsed begins as manifests do, so that it is a damaged or a newer one.

    A file that ends within the opening, such as an empty one, counts as cut.
    """
    try:
        with path.open("rb") as handle:
            return MANIFEST_OPENING.startswith(handle.read(len(MANIFEST_OPENING)))
    except OSError:
        return False


def _list_leftovers(file: Path) -> list[Path]:
    """Return the temporary files of writers of `file` that were killed or are still running."""
    return list(find_temporaries(file))


@contextmanager
def reserve_output(out: Path, force: bool, inputs: Sequence[Path] = ()) -> Iterator[None]:
    """Check that `out` and its manifest may be written, and keep other writers away from them for the block.

    Raises:
        OutputError: see `check_beton_output`; or another process is writing `out`.
    """
    check_beton_output(out, force, inputs)
    lock_path = out.with_name(f".{out.name}.lock")
    try:
        with ExitStack() as stack:
            try:
                is_locked = stack.enter_context(locked(lock_path, timeout=0))
            except Timeout as error:
                raise OutputError(
                    f"{out}: another process is writing it; wait for it or choose another name"
                ) from error
            stack.callback(lock_path.unlink, missing_ok=True)  # runs before the lock is released
            check_output(out, force)  # again: the previous holder of the lock may just have written it
            if is_locked:
                _remove_leftovers(out)
            yield
    finally:
        remove_temporaries([lock_path])  # Ctrl-C may come before the callback is registered


def _remove_leftovers(out: Path) -> None:
    """Remove the files that killed writers of `out` left. The lock is held, so no writer is alive.

    A writer killed between its two renames leaves a manifest without its beton, which is removed too. Once the
    temporary file is gone, that manifest would be indistinguishable from one whose beton was renamed.
    """
    manifest = manifest_path(out)
    leftovers = _list_leftovers(out)
    if leftovers and not out.exists():
        with suppress(ManifestError):
            parse_manifest(manifest)
            manifest.unlink()
    for stale in (*leftovers, *_list_leftovers(manifest)):
        stale.unlink(missing_ok=True)


@contextmanager
def beton_output(out: Path, force: bool, inputs: Sequence[Path] = ()) -> Iterator[IO[bytes]]:
    """Reserve `out`, and yield the temporary file that becomes `out` when the block succeeds.

    The block itself writes the manifest.

    Raises:
        OutputError: `out` may not or cannot be written.
    """
    with reserve_output(out, force, inputs):
        manifest = manifest_path(out)
        fresh = not manifest.exists()
        try:
            with atomic_file(out) as handle:
                yield handle
        except BaseException:
            if fresh and not out.exists():  # interrupted between the two renames
                manifest.unlink(missing_ok=True)
            raise


@contextmanager
def explain_errors(out: Path) -> Iterator[None]:
    """Turn operating-system errors while writing `out` into `OutputError`."""
    try:
        yield
    except OSError as error:
        if is_disk_full(error):
            raise disk_full(out, error) from error
        raise OutputError(f"{out}: cannot be written ({error.strerror or error}); check disk and folder") from error
