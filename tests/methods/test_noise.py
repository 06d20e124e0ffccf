"""Pure noise: its distribution and its inputs."""

import numpy as np

from fastdc.beton import decode_image, encode_jpeg
from fastdc.methods import Compressed, MethodContext, get_method
from fastdc.methods.reference.noise import noise_images


def compress(ipc: int, seed: int) -> Compressed:
    context = MethodContext(np.zeros(0, np.int64), ("a", "b", "c"), 24, lambda index: np.zeros((1, 1, 3), np.uint8))
    return get_method("noise").compress(context, get_method("noise").configure({}), ipc, seed)


def pixels(compressed: Compressed) -> np.ndarray:
    assert compressed.images is not None
    return np.stack(list(compressed.images()))


def test_every_class_has_the_same_number_and_no_sources() -> None:
    compressed = compress(4, 0)
    assert compressed.labels.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert compressed.sources.shape == (12, 0)
    assert pixels(compressed).shape == (12, 24, 24, 3)
    assert pixels(compressed).dtype == np.uint8


def test_images_follow_the_seed_and_their_number() -> None:
    assert np.array_equal(pixels(compress(4, 0)), pixels(compress(4, 0)))
    assert np.array_equal(pixels(compress(5, 0))[:12], pixels(compress(4, 0)))
    images = pixels(compress(4, 0))
    assert len(np.unique(images.reshape(12, -1), axis=0)) == 12
    assert not np.array_equal(images, pixels(compress(4, 1)))


def test_levels_are_normal_and_clipped() -> None:
    levels = np.stack(list(noise_images(40, 64, 3))).reshape(-1, 3) / 255
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    draws = mean + std * np.random.default_rng(0).standard_normal((200_000, 3))
    expected = np.clip(draws, 0, 1)
    assert np.abs(levels.mean(axis=0) - expected.mean(axis=0)).max() < 0.004
    assert np.abs(levels.std(axis=0) - expected.std(axis=0)).max() < 0.004
    assert np.abs((levels == 0).mean(axis=0) - (draws < 0.5 / 255).mean(axis=0)).max() < 0.002
    assert abs(np.corrcoef(levels[:-1, 0], levels[1:, 0])[0, 1]) < 0.01
    assert abs(np.corrcoef(levels[:, 0], levels[:, 1])[0, 1]) < 0.01


def test_stored_images_are_still_noise() -> None:
    image = next(noise_images(1, 64, 3))
    stored = decode_image(encode_jpeg(image, 75))
    assert stored.std() > 0.5 * image.std()
