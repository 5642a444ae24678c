"""transformers is imported without what is of no use there."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

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


TOKENIZERS = """
import sys
from raytune_ft.lean_imports import import_transformers, run_no_model
run_no_model()
import_transformers()
from transformers import AutoConfig, AutoTokenizer, utils
assert not {"torch", "sklearn"} & set(sys.modules), "they came along"
assert AutoTokenizer.from_pretrained(sys.argv[1])("a word")["input_ids"]
assert not utils.is_torch_available()
from importlib.util import find_spec
assert find_spec("torch") is not None  # for whoever asks later
"""


def test_models_and_tokenizers_come_without_scikit_learn_and_scipy() -> None:
    subprocess.run([sys.executable, "-c", CODE], check=True, timeout=600)


def test_a_driver_makes_tokens_without_pytorch(tiny_llama: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", TOKENIZERS, str(tiny_llama)], capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0 and not done.stderr, done.stderr


def test_a_process_that_has_transformers_keeps_it() -> None:
    late = "from raytune_ft.lean_imports import run_no_model\nrun_no_model()\nimport_transformers()\n"
    code = CODE + late + "assert utils.is_torch_available()"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=600)
