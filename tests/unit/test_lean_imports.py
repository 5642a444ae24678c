"""transformers is imported without what nobody here uses."""

from __future__ import annotations

import subprocess
import sys

CODE = """
import sys
from raytune_ft.lean_imports import import_transformers
import_transformers()
from transformers import AutoModelForCausalLM, AutoTokenizer
import transformers.models.llama.modeling_llama
from transformers import utils
assert not {"sklearn", "scipy"} & set(sys.modules), "they came along"
assert utils.is_sklearn_available() and utils.is_scipy_available()  # for whoever asks later
"""


def test_models_and_tokenizers_come_without_scikit_learn_and_scipy() -> None:
    subprocess.run([sys.executable, "-c", CODE], check=True, timeout=120)
