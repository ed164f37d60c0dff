"""Trains translation models from ranked shards in curriculum order, translates, and measures the result in BLEU."""
