"""What goes to other toolkits and comes from them:
published weights, their formats, ONNX, the Hub's layout."""
