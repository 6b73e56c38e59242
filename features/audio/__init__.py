"""Reading and writing audio files.

- files: reading audio of any format whole, writing WAV with the samples that musdb would read
- headers: finding files whose header states more or less than is there
- codecs: writing wav, flac, mp3, m4a, ogg and opus
- formats: the sampling rate used inside, and names of the formats
- ffmpeg: finding ffmpeg and decoding with it
- stretching: pitch and tempo of songs
"""
