"""Runs an ONNX model once in Python's ONNX Runtime.

    python onnx_run.py DIR

DIR/model.onnx           the model
DIR/inputs.safetensors   one tensor per input, under its name

Writes DIR/outputs.safetensors and prints one JSON line: {"version"} of onnxruntime, or {"missing"}, the first package that is not installed.
"""

import importlib
import json
import sys
from pathlib import Path


def main(folder: Path) -> None:
    for package in ("numpy", "safetensors", "onnxruntime"):
        try:
            importlib.import_module(package)
        except ImportError:
            print(json.dumps({"missing": package}))
            return
    import onnxruntime
    from safetensors.numpy import load_file, save_file

    session = onnxruntime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
    inputs = load_file(folder / "inputs.safetensors")
    names = [output.name for output in session.get_outputs()]
    outputs = session.run(names, {i.name: inputs[i.name] for i in session.get_inputs()})
    save_file(dict(zip(names, outputs, strict=True)), folder / "outputs.safetensors")
    print(json.dumps({"version": onnxruntime.__version__}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
