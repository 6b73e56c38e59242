"""The report: scores to look at, and excerpts of songs to listen to, as one folder.

assets/ holds the page's template, style and scripts.

- contents: what the page shows, from the leaderboard's files
- excerpts: which seconds of a song it plays, and the outline of its waveform
- pages: the files of the report
"""
