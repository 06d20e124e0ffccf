"""Read, write, verify and describe `.beton` files.

Importing the package loads neither torch nor ffcv; only `sources/torch_files.py` loads torch, to read a .pt file.
Public names load on first use, so importing the package is cheap. `__init__.pyi` lists them once, for Python and for
type checkers.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
