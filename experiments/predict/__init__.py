"""Predict with a trained model: images, words, texts and table rows."""
