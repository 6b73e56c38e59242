"""Songs and their stems.

- corpora: finds the tracks of MUSDB folders and CSV files
- sources: names of the mixture and the stems
- decoding: decodes one track to WAV files and its row of the manifest
- manifest: the names of sources; tracks.parquet and the rejects' table
- track_audio: a track's audio as local files, decoded or copied if needed
- starter: the generated smoke corpus
- instruments: the sounds of its songs
- stem_files: writing .stem.mp4 files
"""
