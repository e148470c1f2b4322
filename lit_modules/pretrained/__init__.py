"""Read the models of other projects: Hugging Face folders and GGUF files."""
