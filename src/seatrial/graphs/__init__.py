"""Surgery on ONNX and torch graphs; it uses neither images nor the artifact store."""
