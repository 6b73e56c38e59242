"""Files of sound, read and written.

- files: reading and writing audio; WAV with the samples that musdb would read
- codecs: writing the formats that people ask for
- formats: the rate inside, and which formats are written
- ffmpeg: finding ffmpeg and decoding with it
"""
