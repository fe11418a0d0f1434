"""Model hubs: Hugging Face and ModelScope, searched and fetched from."""
