"""Our files and stock FFCV's are the same format, in both directions."""

import ctypes
import io
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from fastdc.beton import BetonFile, Sample, decode_image, describe_beton, verify_beton, write_beton, write_samples
from fastdc.beton import format as beton_format
from fastdc.common.errors import BetonError

ffcv_fields = pytest.importorskip("ffcv.fields", reason="the oracle; install fastdc[ffcv]")
ffcv_types = pytest.importorskip("ffcv.types")


class Pictures:
    """Indexable of (pixels, label), as stock FFCV's writer takes it."""

    def __init__(self, pictures, labels):
        self.pictures, self.labels = pictures, labels

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        return self.pictures[index], self.labels[index]


@pytest.fixture
def pictures(make_picture):
    return [make_picture(40 + 3 * i, 64 - i, seed=i) for i in range(12)]


def write_stock(path, pictures, labels, workers, names=("image", "label"), **options):
    from ffcv.writer import DatasetWriter

    fields = dict(zip(names, (ffcv_fields.RGBImageField(**options), ffcv_fields.IntField()), strict=True))
    writer = DatasetWriter(str(path), fields, num_workers=workers)
    writer.from_indexed_dataset(Pictures(pictures, labels), chunksize=2)
    return path


def write_mixed(path, pictures, to_file):
    """Write pictures with fastdc: every second one raw, the others JPEG."""
    samples = [
        Sample(picture if i % 2 else to_file(picture), i % 5, f"{i % 5}/{i}") for i, picture in enumerate(pictures)
    ]
    write_samples(path, samples, classes="abcde", dataset="mixed", split="train", source="test", made={})
    return samples


def test_types_equal_those_of_ffcv():
    metadata = ffcv_types.get_metadata_type([ffcv_fields.RGBImageField(), ffcv_fields.IntField()])
    assert ffcv_types.HeaderType == beton_format.HEADER
    assert ffcv_types.FieldDescType == beton_format.DESCRIPTOR
    assert beton_format.ALLOCATION == ffcv_types.ALLOC_TABLE_TYPE
    assert beton_format.METADATA.itemsize == metadata.itemsize
    ours = [beton_format.METADATA.fields[name][1] for name in beton_format.METADATA.names]
    assert ours == [metadata.fields[name][1] for name in metadata.names]
    assert metadata["f0"] == beton_format.IMAGE_METADATA
    type_ids = {name: ffcv_types.TYPE_ID_HANDLER[type_id] for name, type_id in beton_format.FIELDS}
    assert type_ids == {b"image": ffcv_fields.RGBImageField, b"label": ffcv_fields.IntField}


@pytest.mark.parametrize(
    ("workers", "options"),
    [
        (1, {"write_mode": "jpg"}),
        (2, {"write_mode": "jpg", "jpeg_quality": 70}),
        (2, {"write_mode": "raw"}),
        (1, {"write_mode": "smart", "smart_threshold": 40 * 64 * 3 + 500}),
    ],
)
def test_stock_files_are_read(tmp_path, pictures, workers, options):
    labels = [7 * i % 5 for i in range(len(pictures))]
    path = write_stock(tmp_path / "stock.beton", pictures, labels, workers, **options)
    assert verify_beton(path, deep=True) == []
    with BetonFile(path) as file:
        assert file.labels.tolist() == labels
        assert list(zip(file.heights, file.widths, strict=True)) == [picture.shape[:2] for picture in pictures]
        for index, picture in enumerate(pictures):
            difference = np.abs(file.decode(index).astype(int) - picture)
            assert difference.max() == 0 if file.modes[index] else difference.mean() < 6
        if options["write_mode"] == "smart":
            assert set(file.modes.tolist()) == {0, 1}
    manifest = describe_beton(path)
    assert manifest.classes == ("0", "1", "2", "3", "4")
    assert manifest.ids[:3] == ("0", "1", "2")
    assert sum(manifest.counts) == len(pictures)


def test_the_stock_reader_reads_fastdcs_files(tmp_path, pictures, to_file):
    from ffcv.reader import Reader

    samples = write_mixed(tmp_path / "ours.beton", pictures, to_file)
    reader = Reader(str(tmp_path / "ours.beton"))
    assert list(reader.handlers) == ["image", "label"]
    assert [type(handler).__name__ for handler in reader.handlers.values()] == ["RGBImageField", "IntField"]
    assert reader.metadata["f1"].tolist() == [sample.label for sample in samples]
    data = (tmp_path / "ours.beton").read_bytes()
    place = {int(row["ptr"]): int(row["size"]) for row in reader.alloc_table}
    for row, sample in zip(reader.metadata["f0"], samples, strict=True):
        payload = data[row["data_ptr"] : int(row["data_ptr"]) + place[int(row["data_ptr"])]]
        assert payload == (sample.image if isinstance(sample.image, bytes) else sample.image.tobytes())


STOCK_LOADER = """
import sys
import numpy as np
from ffcv.fields.decoders import IntDecoder, SimpleRGBImageDecoder
from ffcv.loader import Loader, OrderOption
from ffcv.transforms import ToTensor

path, out = sys.argv[1:]
pipelines = {"image": [SimpleRGBImageDecoder()], "label": [IntDecoder(), ToTensor()]}
options = {"order": OrderOption.SEQUENTIAL, "drop_last": False, "pipelines": pipelines}
arrays = {}
for name, os_cache in (("process", False), ("system", True)):  # in this order: see the test
    loader = Loader(path, batch_size=5, num_workers=1, os_cache=os_cache, **options)
    batches = [(np.array(images), labels.flatten().numpy().copy()) for images, labels in loader]
    arrays[f"{name}_images"], arrays[f"{name}_labels"] = map(np.concatenate, zip(*batches))
np.savez(out, **arrays)
"""


@pytest.mark.timeout(100)
def test_the_stock_loader_gives_equal_pixels_and_labels(tmp_path, make_picture, to_file):
    """Use both of its caches, in a separate process: FFCV's OSCacheManager changes numba's shared type of byte
    arrays (it sets `mutable` on it), and whatever numba compiles later in that process may fail with a KeyError.
    """
    pictures = [make_picture(32, 48, seed=i) for i in range(10)]
    path, out = tmp_path / "ours.beton", tmp_path / "loaded.npz"
    samples = write_mixed(path, pictures, to_file)
    subprocess.run([sys.executable, "-c", STOCK_LOADER, str(path), str(out)], check=True, timeout=90)
    loaded = np.load(out)
    for cache in ("process", "system"):
        assert loaded[f"{cache}_labels"].tolist() == [sample.label for sample in samples]
        for sample, image, picture in zip(samples, loaded[f"{cache}_images"], pictures, strict=True):
            difference = np.abs(image.astype(int) - picture)
            assert difference.mean() < 8 if isinstance(sample.image, bytes) else difference.max() == 0


def decode_as_ffcv(payload, height, width):
    """FFCV's own JPEG decoder, called directly: compiling a pipeline for each kind of JPEG would take minutes."""
    from ffcv.libffcv import ctypes_imdecode

    source, target = np.frombuffer(payload, np.uint8).copy(), np.zeros((height, width, 3), np.uint8)
    pointers = [ctypes.c_void_p(array.ctypes.data) for array in (source, target)]
    code = ctypes_imdecode(
        pointers[0], len(source), height, width, pointers[1], height, width, 0, 0, 1, 1, False, False
    )
    return code, target


def test_ffcv_decodes_every_kind_of_copied_jpeg(tmp_path, make_picture, to_file):
    picture = Image.fromarray(make_picture(45, 67, seed=1))
    kinds = {
        "baseline": to_file(picture),
        "progressive": to_file(picture, progressive=True),
        "grey": to_file(picture.convert("L")),
        "no_subsampling": to_file(picture, subsampling=0),
        "rgb": to_file(picture, keep_rgb=True),
        "trailing": to_file(picture) + b"junk",
        "restart": to_file(picture, restart_marker_blocks=3),
    }
    (tmp_path / "in" / "cat").mkdir(parents=True)
    for name, data in kinds.items():
        (tmp_path / "in" / "cat" / f"{name}.jpg").write_bytes(data)
    manifest = write_beton(tmp_path / "in", tmp_path / "out.beton")
    assert manifest.converted == {}
    with BetonFile(tmp_path / "out.beton") as file:
        for index, name in enumerate(sorted(kinds)):
            assert bytes(file.payload(index)) == kinds[name]
            code, pixels = decode_as_ffcv(file.payload(index), 45, 67)
            expected = np.asarray(Image.open(io.BytesIO(kinds[name])).convert("RGB")).astype(int)
            assert code == 0, name
            assert np.abs(pixels - expected).mean() < 2.5, name  # FFCV uses the fast, less accurate inverse DCT
            np.testing.assert_array_equal(file.decode(index), expected)


def test_ffcv_decodes_a_copied_441_jpeg(jpeg_441):
    code, pixels = decode_as_ffcv(jpeg_441, 32, 64)
    assert code == 0
    assert np.abs(pixels - decode_image(jpeg_441).astype(int)).mean() < 2.5


def test_a_stock_file_with_other_fields_is_refused(tmp_path, pictures):
    path = write_stock(tmp_path / "x.beton", pictures[:2], [0, 1], 1, names=("picture", "label"), write_mode="raw")
    with pytest.raises(BetonError, match=r"fields: field 0 is 'picture' of type 2, expected 'image' of type 2"):
        BetonFile(path)


def test_an_interrupted_stock_write_is_refused(tmp_path, pictures):
    """FFCV writes its header first and its allocation table last; its own reader takes such a file for a whole one."""
    path = write_stock(tmp_path / "x.beton", pictures, [0] * 12, 1, write_mode="raw")
    data = bytearray(path.read_bytes())
    data[16:24] = bytes(8)
    path.write_bytes(data)
    with pytest.raises(BetonError, match="interrupted"):
        BetonFile(path)
    assert [problem.section for problem in verify_beton(path, deep=True)] == ["header"]
