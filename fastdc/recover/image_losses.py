"""Loss terms on the images themselves."""

import torch
from torch import Tensor
from torch.nn import functional

POOLED_SIDE = 32


def densification(images: Tensor, labels: Tensor, temperature: float = 4.0) -> Tensor:
    """Return G-VBSM's data densification, a scalar that grows as the images of one class become alike (eq. 4).

    For each class of the batch, the images are pooled to 32 x 32 and the eigenvalues e of their Gram matrix are
    computed. One dominant eigenvalue means that the images are copies of each other. The term is
    KL(softmax(e / temperature) || softmax(e)), with no gradient through the softened spectrum. A class with one image
    adds 0. As published, the spectrum is not scaled, so both sides are one-hot if eigenvalues lie far apart. The term
    is thus exactly 0 on real images and acts only near noise.

    Args:
        images: [B, 3, S, S], as the teacher sees them.
        labels: int64 [B].
        temperature: above 1.

    Returns:
        The sum over classes; NaN if the images are not finite.
    """
    with torch.autocast(images.device.type, enabled=False):  # eigenvalues need more than half precision
        wide = images if images.dtype == torch.float64 else images.float()
        pooled = functional.adaptive_avg_pool2d(wide, POOLED_SIDE).flatten(1)
        spectra = [_spectrum(pooled[labels == label]) for label in torch.unique(labels)]
        return torch.stack([_sharpness(spectrum, temperature) for spectrum in spectra]).sum()


def _spectrum(rows: Tensor) -> Tensor:
    """Return the eigenvalues of the Gram matrix of rows [n, D], ascending, [n]."""
    gram = rows @ rows.T
    if not gram.isfinite().all():  # eigvalsh's error names no cause; the engine checks for a NaN loss
        return gram.diagonal() * float("nan")
    spectrum: Tensor = torch.linalg.eigvalsh(gram)
    return spectrum


def _sharpness(spectrum: Tensor, temperature: float) -> Tensor:
    soft = (spectrum.detach() / temperature).softmax(0)
    return functional.kl_div(spectrum.log_softmax(0), soft, reduction="sum")
