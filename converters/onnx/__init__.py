"""The door for ONNX models: files and ``onnx.ModelProto``."""
