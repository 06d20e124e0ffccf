"""Loss terms on the images themselves."""

import torch
from torch import Tensor
from torch.nn import functional

POOLED_SIDE = 32


def densification(images: Tensor, labels: Tensor, temperature: float = 4.0) -> Tensor:
    """G-VBSM's data densification, a scalar: keeps the images of a class from becoming all alike (eq. 4 of the paper).

    For each class of the batch, the images are pooled to 32 x 32 and their Gram matrix's eigenvalues taken: one large
    eigenvalue says that the images are copies of each other. The term is KL(softmax(e / temperature) || softmax(e)),
    the softened spectrum without gradient. A class with one image adds 0. As published, the spectrum is not scaled, so
    both sides are one-hot where eigenvalues lie far apart: the term is exactly 0 on real images and acts near noise.

    Args:
        images: [B, 3, S, S], as the teacher sees them.
        labels: int64 [B].
        temperature: above 1.

    Returns:
        NaN where the images are not finite.
    """
    with torch.autocast(images.device.type, enabled=False):  # eigenvalues need more than half precision
        wide = images if images.dtype == torch.float64 else images.float()
        pooled = functional.adaptive_avg_pool2d(wide, POOLED_SIDE).flatten(1)
        spectra = [_spectrum(pooled[labels == label]) for label in torch.unique(labels)]
        return torch.stack([_sharpness(spectrum, temperature) for spectrum in spectra]).sum()


def _spectrum(rows: Tensor) -> Tensor:
    """Eigenvalues of the Gram matrix of [n, D], ascending, [n]."""
    gram = rows @ rows.T
    if not gram.isfinite().all():  # torch's own error names no cause; a NaN loss is what the engine looks for
        return gram.diagonal() * float("nan")
    spectrum: Tensor = torch.linalg.eigvalsh(gram)
    return spectrum


def _sharpness(spectrum: Tensor, temperature: float) -> Tensor:
    soft = (spectrum.detach() / temperature).softmax(0)
    return functional.kl_div(spectrum.log_softmax(0), soft, reduction="sum")
