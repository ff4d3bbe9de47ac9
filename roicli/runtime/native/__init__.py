"""Compiled CPU kernels with ONNX Runtime's bits."""
