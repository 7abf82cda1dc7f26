"""The backend `onnxruntime`, under the name of the one that NVIDIA builds."""
