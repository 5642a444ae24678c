"""The facts that every method states as class variables, which all other code asks instead of the method's name.

`artefact`: What a trial leaves: an adapter beside the base, or a whole model.
`rate`: Its best learning rate, relative to that of `lora`.
`weight_bytes`: Bytes of a trained weight in memory; Adam's state has twice as many.
`base_loaded`: How the base's weights are held while it trains: `as_it_is` in `train.dtype`, or in 4 bits (`nf4`).
`takes_quantized`: Whether the base may be quantized already.
`strategies`: The strategies of several workers that it was tried with; others are refused.
`not_on_lanes`: Why no lane can train it; None where one can.
`lanes_refuse`: Setting -> why no lane can train it where that is on.
`served`: How vLLM gets it: `as_it_is` as an adapter, `whole` as a model of its own.
`merged_with`: Settings with which vLLM can't load the adapter, so that it is merged into the base.
"""

from __future__ import annotations

from typing import Literal

Artefact = Literal["adapter", "model"]
BaseLoaded = Literal["as_it_is", "nf4"]
Served = Literal["as_it_is", "whole"]
