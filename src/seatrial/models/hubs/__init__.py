"""Model hubs: Hugging Face and ModelScope, searched and downloaded from over plain HTTP."""
