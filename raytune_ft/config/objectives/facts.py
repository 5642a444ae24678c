"""The facts that every objective states as class variables, which all other code asks instead of the objective's name.

`rows`: The kind of rows that it takes; None if its trainer brings its own data.
`reports`: The metrics of a trial's reports. The first leads a search that names none.
`row_metrics`: The metrics that `evaluate` can make of scored rows. `evaluated_by`: those it makes by default.
`makes`: What comes out.
`diverges_by`: The reported loss whose growth over the base's own means divergence; None where only a number that is not
    finite does.
`searched`: Its settings in which the trials of a study may differ. The others decide the prepared rows.
`scales`: Reported metric -> settings that change what its values mean, so that trials that differ in these can't be
    compared by it.
`rate`: Its best learning rate, relative to that of `sft` with the same method.
`sequences`: How many sequences of tokens a row has in a forward pass.
`reference_passes`: How many further forward passes a step takes, of a model that is compared with.
`not_on_lanes`: Why no lane can train it; None where one can.

`config.methods.facts` does the same for methods.
"""

from __future__ import annotations

from typing import Literal

Product = Literal["causal_lm", "anything"]
"""`causal_lm`: a model that continues text, which the endpoint serves. `anything`: whatever a user's trainer makes."""
