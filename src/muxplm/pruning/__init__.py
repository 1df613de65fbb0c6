"""Smaller models from fine-tuned ones: by CoFi, which trains masks, or without training."""
