"""Accuracy from detections and labels: matching, COCO's figures, and what can be told from them."""
