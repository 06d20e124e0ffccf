"""Image folder: CLASS/NUMBER.jpg."""

import os
from pathlib import Path

from fastdc.beton.export.folder_names import folder_names
from fastdc.beton.export.layout import IMAGE_FILE, ExportSet, Layout, write_record
from fastdc.beton.exported import Exported


class AsFolder(Layout):
    """Folder with a folder for each class, as torchvision's ImageFolder reads it."""

    name = "folder"
    title = "CLASS/NUMBER.jpg, as torchvision's ImageFolder reads it"

    def write(self, images: ExportSet, place: Path) -> None:
        names = write_class_folders(images, place)
        write_record(images, self.name, place, len(images.beton), folders=names)

    def may_hold(self, name: str, record: Exported) -> bool:
        return is_class_file(name, record)

    def notes(self, images: ExportSet, out: Path) -> list[str]:
        return class_notes(images)


def write_class_folders(images: ExportSet, place: Path) -> tuple[str, ...]:
    """Write every image as CLASS/NUMBER.jpg or .png; return the folder of each class.

    A class without images gets an empty folder, so that labels stay the same.
    """
    names = folder_names(images.manifest.classes)
    for name in names:
        (place / name).mkdir(parents=True)
    folders = [os.path.join(place, name) for name in names]
    for image in images.images():
        with open(f"{folders[image.label]}/{image.key}.{image.suffix}", "wb") as handle:
            handle.write(image.data)
    return names


def is_class_file(name: str, record: Exported) -> bool:
    """Return whether a path is that of an image which `write_class_folders` may have written."""
    folder, _, file = name.rpartition("/")
    return folder in (record.folders or ()) and IMAGE_FILE.fullmatch(file) is not None


def class_notes(images: ExportSet) -> list[str]:
    """Return a line for each way in which ImageFolder sees other classes than the beton."""
    classes, lines = images.manifest.classes, []
    names = folder_names(classes)
    renamed = [(name, folder) for name, folder in zip(classes, names, strict=True) if name != folder]
    if renamed:
        first = f"{renamed[0][0]!r} is {renamed[0][1]!r}"
        lines.append(f"{len(renamed)} classes have folders of other names, which all file systems take: {first}")
    if list(names) != sorted(names):
        lines.append("ImageFolder sorts class folders, so its label numbers differ from the beton's")
    empty = [name for name, count in zip(names, images.manifest.counts, strict=True) if not count]
    if empty:
        lines.append(f"{len(empty)} class folders are empty, such as {empty[0]}: ImageFolder needs allow_empty=True")
    return lines


LAYOUT = AsFolder()
