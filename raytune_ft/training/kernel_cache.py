"""Limits how many compiled kernels a CPU worker keeps."""

from __future__ import annotations

import os

KERNELS_PER_STEP = 25
"""Kernels that one step of a Llama on a lane needs, as oneDNN compiles one for each shape of a product."""
KERNELS = 96
"""Kernels that are kept. oneDNN's default is 1,024, of about 0.45 MiB each. The number of tokens differs from step to
step, so that kernels of more than a few steps only take memory."""
_VARIABLE = "ONEDNN_PRIMITIVE_CACHE_CAPACITY"


def keep_few_kernels() -> None:
    """Sets the limit unless the user has set one; must be called before the first product."""
    os.environ.setdefault(_VARIABLE, str(KERNELS))
