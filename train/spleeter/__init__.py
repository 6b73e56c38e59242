"""What Deezer's Spleeter has published, as ours.

- checkpoints: official checkpoints as models
- configuration: its JSON configurations
"""
