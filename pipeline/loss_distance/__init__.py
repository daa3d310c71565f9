"""Loss distances: how wrong an image's forward pass is when another image's predictions are the truth."""
