"""Surgery on ONNX and torch graphs; knows neither images nor the artifact store."""
