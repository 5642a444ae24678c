"""The JSON schema of experiment files, for editors."""

from __future__ import annotations

from typing import Any

from raytune_ft.config.experiment import Experiment


def experiment_schema() -> dict[str, Any]:
    """Returns the JSON Schema 2020-12 of an experiment file; `search.space` may also be the name of a space's file."""
    schema = Experiment.model_json_schema()
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    space = schema["$defs"]["Search"]["properties"]["space"]
    schema["$defs"]["Search"]["properties"]["space"] = {
        "anyOf": [{"$ref": space["$ref"]}, {"type": "string", "description": "A file of search_spaces/"}],
        "description": space.get("description", ""),
    }
    return schema
