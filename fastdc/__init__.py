"""fastdc: large-scale dataset compression under one fair, fast, repeatable benchmark.

Each public name is imported on first use, so torch loads only where it is needed:

- `write_beton`, `verify_beton`, `BetonFile`, `Manifest`: data as FFCV `.beton` files with a manifest.
- `open_loader`: batches from a beton, the same for every engine and number of workers.
- `fastdc.observe.observe`: one logged training on the full set; every score-based method reads its dynamics.
- `compress_beton`, `select`, `all_methods`, `get_method`: compression methods and the subsets they make.
- `scores`: the difficulty scores of the literature, computed directly from logits, high = hard.
- `evaluate`: accuracy of a network trained from scratch on a subset under one protocol.
"""

import lazy_loader

from fastdc.common.threads import bound_spinning

bound_spinning()  # must precede the first import of torch: libgomp reads the variable only once

# `__init__.pyi` lists the public names once, for Python and for type checkers.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
