"""Where operators run: ONNX Runtime, CUDA and compiled kernels."""
