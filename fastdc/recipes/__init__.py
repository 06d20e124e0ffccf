"""Get, check and write known image sets: Fashion-MNIST, Imagenette, and what the recipes of further sets share."""
