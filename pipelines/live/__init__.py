"""Separation while the music plays: `stemforge live`.

- running: devices and files, from the start to the end
- planning: which window this machine can hold
- session: the thread that separates
- exchange: sound between the sound server's callback and that thread
- devices: sound devices, by PortAudio
- sources: songs that are played as if a device heard them
- recording: what is written meanwhile
- keys: gains that a person changes meanwhile
"""
