"""What leaves this package: official checkpoints, the video layout, ONNX; each written whole, and only once it was loaded and compared."""
