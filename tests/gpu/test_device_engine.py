"""Device engine, pinned batches and mixed precision: on the CPU in the ordinary suite, on CUDA with `-m gpu`."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fastdc.common.float32 import set_float32, switches
from fastdc.kernels.views.view_batches import PLACE_NUMBERS, place_views
from fastdc.loader import Batch, EvalView, TrainView, open_loader
from fastdc.loader.engines.device_resize import resize_views
from fastdc.loader.engines.ffcv_support import ffcv_problem
from fastdc.loader.view_settings import view_numbers
from fastdc.nn.device import Compute
from fastdc.nn.fit import Fit
from fastdc.nn.fit_loop import run_fit, steps_per_epoch
from fastdc.nn.fit_plan import FitPlan, Recorder
from fastdc.nn.models import build_model
from tests.loader.conftest import jpeg, picture, write

no_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no CUDA device")
CUDA = pytest.param("cuda", marks=[pytest.mark.gpu, no_cuda])
DEVICES = ["cpu", CUDA]
ENGINES = ["ffcv", "resident"]
PRECISIONS = [
    ("cpu", "fp32"),
    ("cpu", "bf16"),
    *(pytest.param("cuda", p, marks=[pytest.mark.gpu, no_cuda]) for p in ("fp32", "tf32", "bf16", "fp16")),
]


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    images = [jpeg(picture(70, 90, seed)) for seed in range(24)]
    return write(tmp_path_factory.mktemp("gpu") / "set.beton", images)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("output", ["uint8", "float32"])
@pytest.mark.parametrize(
    ("view", "views"),
    [(TrainView(32), 1), (TrainView(64, tile_grid=2), 1), (TrainView(64, tile_grid=2), 3), (EvalView(40), 1)],
    ids=["one", "tiles", "visits", "eval"],
)
def test_views_made_on_the_device_are_those_of_the_cpu(
    stored: Path, view: Any, views: int, output: Any, device: str
) -> None:
    common: dict[str, Any] = {"batch_size": 10, "seed": 3, "shuffle": True, "output": output, "views": views}
    with (
        open_loader(stored, view, engine="device", device=device, **common) as made,
        open_loader(stored, view, engine="resident", **common) as reference,
    ):
        for batch, expected in zip(made.epoch(2), reference.epoch(2), strict=True):
            assert batch.images.device.type == batch.labels.device.type == device
            assert batch.indices.device.type == "cpu"
            level = 1.0 if output == "uint8" else 1 / (255 * 0.224) + 1e-6
            assert (batch.images.cpu().float() - expected.images.float()).abs().max() <= level
            assert torch.equal(batch.labels.cpu(), expected.labels)
            assert torch.equal(batch.indices, expected.indices)
            assert batch.images.stride() == expected.images.stride()


@pytest.mark.parametrize("device", DEVICES)
def test_crop_boxes_are_the_same_on_every_device(device: str) -> None:
    """Images with coordinates as pixels show where a crop was taken."""
    rows, columns = np.mgrid[0:96, 0:96].astype(np.uint8)
    image = np.ascontiguousarray(np.stack([2 * rows, 2 * columns, rows], axis=2))
    places = np.zeros((50, PLACE_NUMBERS), np.int64)
    view, sides = TrainView(96), np.full(50, 96)
    place_views(view_numbers(view), 5, 1, np.arange(50), sides, sides, 96, places)
    batch = torch.from_numpy(image).expand(50, 96, 96, 3).contiguous()
    made = resize_views(batch.to(device), torch.from_numpy(places), 96).cpu()
    assert torch.equal(made, resize_views(batch, torch.from_numpy(places), 96))
    for view_made, (top, left, height, width, *_, mirror) in zip(made, places.tolist(), strict=True):
        corner = view_made[0, -1 if mirror else 0].tolist()
        assert abs(corner[0] - 2 * top) <= 2 * max(height / 96, 1)
        assert abs(corner[1] - 2 * left) <= 2 * max(width / 96, 1)


@pytest.mark.parametrize("device", DEVICES)
def test_products_on_the_device_ignore_the_callers_precision(device: str) -> None:
    images = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (4, 50, 60, 3), dtype=np.uint8))
    places, sides = np.zeros((4, PLACE_NUMBERS), np.int64), np.zeros(4, np.int64)
    place_views(view_numbers(TrainView(33)), 5, 1, np.arange(4), sides + 50, sides + 60, 33, places)
    expected = resize_views(images, torch.from_numpy(places), 33)
    set_float32("tf32")
    try:
        loose = [switch.read() for switch in switches()]
        with torch.autocast(device, dtype=torch.bfloat16):
            made = resize_views(images.to(device), torch.from_numpy(places), 33)
        assert [switch.read() for switch in switches()] == loose
    finally:
        set_float32("ieee")
    assert torch.equal(made.cpu(), expected)


@pytest.mark.parametrize(
    ("engine", "device"),
    [("resident", "cpu"), *(pytest.param(each, *CUDA.values, marks=CUDA.marks) for each in ENGINES)],
)
def test_batches_for_cuda_are_pinned_and_owned_by_the_caller(stored: Path, engine: Any, device: str) -> None:
    if engine == "ffcv" and (problem := ffcv_problem()) is not None:
        pytest.skip(problem)
    with open_loader(stored, TrainView(32), batch_size=5, engine=engine, device=device) as loader:
        kept = [(batch.images, batch.images.clone()) for batch in loader.epoch(0)]
        list(loader.epoch(1))
    for images, copy in kept:
        assert images.is_pinned() == (device == "cuda")
        assert torch.equal(images, copy)


@pytest.mark.parametrize("device", DEVICES)
def test_auto_keeps_the_set_on_a_cuda_device(stored: Path, device: str) -> None:
    with open_loader(stored, TrainView(32), batch_size=5, device=device) as loader:
        assert loader.engine == ("device" if device == "cuda" else "resident")


class Losses(Recorder):
    """Recorder that keeps the loss of every epoch."""

    def __init__(self) -> None:
        self.losses: list[float] = []

    def batch(self, batch: Batch, logits: torch.Tensor) -> None:
        assert logits.shape == (len(batch.labels), 3)

    def epoch_end(self, epoch: int, loss: float, lr: float) -> None:
        self.losses.append(loss)

    def state(self) -> dict[str, Any]:
        return {}

    def restore(self, state: dict[str, Any]) -> None:
        pass


@pytest.mark.parametrize(("device", "precision"), PRECISIONS)
@pytest.mark.parametrize("engine", ["device", "resident"])
def test_steps_of_every_precision_learn(stored: Path, engine: Any, device: str, precision: str) -> None:
    compute, recorder = Compute(torch.device(device), precision, torch.get_num_threads()), Losses()
    torch.manual_seed(0)
    model = build_model("convnet_w32", 3, 32, 0).to(device)
    with open_loader(
        stored, TrainView(32, (0.9, 1.0), flip=False), batch_size=12, shuffle=True, engine=engine, device=device
    ) as loader:
        plan = FitPlan(12, steps_per_epoch(loader), lambda *place: 0.003, torch.nn.CrossEntropyLoss(), seed=0)
        run_fit(Fit(model, torch.optim.AdamW(model.parameters(), fused=True), compute, plan, recorder), loader)
    assert recorder.losses[-1] < 0.8 * recorder.losses[0]
    assert all(parameter.isfinite().all() for parameter in model.parameters())
