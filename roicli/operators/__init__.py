"""What is computed: specs, geometry, references and ONNX graphs. No file, no session."""
