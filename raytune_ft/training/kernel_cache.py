"""How many compiled kernels a CPU worker keeps."""

from __future__ import annotations

import os

KERNELS_PER_STEP = 25
"""oneDNN compiles a kernel for each shape of a product; a step of a Llama on a lane has about as many shapes."""
KERNELS = 96
"""oneDNN would keep 1,024, about 0.45 MiB each. No two steps have passes of the same tokens, so what is kept beyond a
few steps is memory that grows with them."""
_VARIABLE = "ONEDNN_PRIMITIVE_CACHE_CAPACITY"


def keep_few_kernels() -> None:
    """Called before the first product; a value that the user set stays."""
    os.environ.setdefault(_VARIABLE, str(KERNELS))
