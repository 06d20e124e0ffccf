"""Crop, antialiased bilinear resize and mirror of a batch by matrix products, on the device of its images.

Every view is rows @ image @ columns^T. The weights are those of `kernels.views.resize`, computed on the device from the
views' places. It is resized first along the rows of the image, rounded to 8 bits, then along its columns. The kernels
compute with integers; float32 gives the same sums here. A weight of 22 bits is split into two halves of 11 bits. The
products of a half with 8-bit levels sum to less than 2**24 and are therefore exact in any order. Only if an image is
shrunk more than 16-fold may the lower half lose its last bit, which is worth 2**-22 of a level.
"""

import math

import torch

from fastdc.common.float32 import exact_float32
from fastdc.common.transfer import send
from fastdc.kernels.views.view_batches import (
    HEIGHT,
    LEFT,
    MIRROR,
    RESIZED_HEIGHT,
    RESIZED_WIDTH,
    TOP,
    WIDTH,
    WINDOW_LEFT,
    WINDOW_TOP,
)

_BITS, _HALF_BITS = 22, 11


def resize_views(images: torch.Tensor, places: torch.Tensor, size: int) -> torch.Tensor:
    """Return the views at `places` of whole images.

    Args:
        images: uint8 [B, H, W, 3].
        places: int32 or int64 [B, PLACE_NUMBERS] on the CPU, see `kernels.views.view_batches.place_view`.
        size: side of the views, S.

    Returns:
        uint8 [B, S, S, 3] on the images' device.
    """
    count, height, width, channels = images.shape
    with torch.no_grad(), torch.autocast(images.device.type, enabled=False), exact_float32():
        columns = _weights(places, (LEFT, WIDTH, RESIZED_WIDTH, WINDOW_LEFT), size, width, images.device)
        rows = _weights(places, (TOP, HEIGHT, RESIZED_HEIGHT, WINDOW_TOP), size, height, images.device)
        turned = images.float().permute(0, 2, 1, 3).reshape(count, width, height * channels)
        lines = _blend(columns, turned).view(count, size, height, channels).permute(0, 2, 1, 3)
        views = _blend(rows, lines.reshape(count, height, size * channels))
        return views.to(torch.uint8).view(count, size, size, channels)


def _blend(weights: torch.Tensor, lines: torch.Tensor) -> torch.Tensor:
    """Return weighted sums of lines, rounded to whole levels: [B, 2 * S, L] x [B, L, n] -> float32 [B, S, n]."""
    high, low = torch.bmm(weights, lines).int().chunk(2, dim=1)
    total = (high << _HALF_BITS).add_(low).add_(1 << (_BITS - 1))
    return (total >> _BITS).clamp_(max=255).float()


def _weights(
    places: torch.Tensor, columns: tuple[int, int, int, int], size: int, length: int, device: torch.device
) -> torch.Tensor:
    """Return the triangle filter along one side, widened if it shrinks: upper halves of all weights, then lower halves.

    Args:
        places: int32 or int64 [B, PLACE_NUMBERS] on the CPU.
        columns: columns of `places` that hold, along this side, the first pixel of the box, its number of pixels, the
            number they are resized to, and the first resized pixel that the window shows.
        size: pixels of the window, S.
        length: pixels of the image along this side, L; outside the box the weights are 0.
        device: device of the result.

    Returns:
        float32 [B, 2 * S, L], whole numbers below 2**12.
    """
    spans = places[:, columns].double()
    # From `places` on the CPU: reading a maximum from the device would wait for it.
    taps = 2 * math.ceil(max(float((spans[:, 1] / spans[:, 2]).max()), 1.0)) + 1
    first, pixels, resized, window = send(spans, device).unsqueeze(2).unbind(1)  # [B, 1] each
    scale = pixels / resized
    stretch = scale.clamp(min=1.0)
    index = torch.arange(size, device=device, dtype=torch.float64).expand(len(spans), size)
    if columns[0] == LEFT:
        index = torch.where(send(places[:, MIRROR, None] > 0, device), size - 1 - index, index)
    center = (window + index + 0.5) * scale  # [B, S], relative to the box's first pixel
    start = (center - stretch + 0.5).clamp(min=0.0).floor()
    end = torch.minimum((center + stretch + 0.5).floor(), pixels)
    place = start[:, :, None] + torch.arange(taps, device=device, dtype=torch.float64)  # [B, S, taps]
    values = (1.0 - ((place - center[:, :, None] + 0.5) * (1.0 / stretch)[:, :, None]).abs()).clamp_(min=0.0)
    values.masked_fill_(place >= end[:, :, None], 0.0)
    whole = (0.5 + values / values.sum(2, keepdim=True) * (1 << _BITS)).long()
    where = (place + first[:, :, None]).long().clamp_(max=length - 1)  # weights past the end are 0
    halves = torch.cat((whole >> _HALF_BITS, whole & ((1 << _HALF_BITS) - 1)), dim=1).float()
    out = torch.zeros(len(spans), 2 * size, length, device=device)
    return out.scatter_add_(2, where.repeat(1, 2, 1), halves)
