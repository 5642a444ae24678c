"""Ray Serve LLM's own application, as its documentation builds it: `build_openai_app` with one LLMConfig.

Arguments: its fields, a JSON file; the port of loopback to listen on. The engine is whatever the environment names.
"""

from __future__ import annotations

import json
import sys
import threading
from pathlib import Path

import ray
from ray import serve
from ray.serve.llm import LLMConfig, build_openai_app


def main(fields: Path, port: int) -> None:
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="error")
    quiet = {"log_level": "ERROR", "enable_access_log": False}
    serve.start(proxy_location="HeadOnly", http_options={"host": "127.0.0.1", "port": port}, logging_config=quiet)
    config = LLMConfig(**json.loads(fields.read_text()))
    ingress = {"ray_actor_options": {"num_cpus": 0}}  # else it waits for ever where the engine took the last core
    serve.run(build_openai_app({"llm_configs": [config], "ingress_deployment_config": ingress}), route_prefix="/")
    threading.Event().wait()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
