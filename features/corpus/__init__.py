"""Songs and their stems.

- corpora: finds the tracks of a folder of songs
- song_folders: the stems in one song's folder
- csv_files: finds the tracks of CSV files in Spleeter's format
- sources: names of the mixture and the stems
- musdb18: whether test songs are MUSDB18's, its excerpts, MUSDB18-HQ, or some of them
- lengths: lengths of songs, from their files' headers
- decoding: decodes one track to WAV files and its row of the manifest
- manifest: the names of sources; tracks.parquet and the rejects' table
- copies: copies of training songs in another pitch and tempo
- copy_config: how many copies, and how far from their songs
- track_audio: a track's audio as local files, decoded or copied if needed
- starter: the generated smoke corpus
- instruments: the sounds of its songs
- stem_files: writing .stem.mp4 files
"""
