"""Pure functions of tensors: softmax family, losses, ranking metrics, policy objectives."""
