"""Text generation, beam search and scoring, token by token."""
