"""Finetuning: one recipe, three trainers, and an artifact that is proven against its base."""
