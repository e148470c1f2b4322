"""Pure `nn.Module` building blocks, one concept a file, with no Lightning in them."""
