"""Songs and their stems.

- corpora: finding the tracks of MUSDB folders and CSV files
- sources: what the mixture and the stems are called
- decoding: one track to WAV files and its row of the manifest
- manifest: the names of sources; tracks.parquet and the rejects' table
- track_audio: a track's audio as local files, wherever it lies
- starter: the generated smoke corpus
- instruments: the sounds that its songs are made of
- stem_files: writing .stem.mp4 files
"""
