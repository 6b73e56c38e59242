"""What is done with trained nets: separation, scores, leaderboard, exports.

- separation: songs to stems
- runtimes: what runs the nets: TensorFlow or LiteRT
- scoring: estimates against true stems
- leaderboard: scores of many methods as tables, pages and plots
- exports: SavedModel and TFLite files, and the proof of what they compute
- config: how scores and tables can be made, in words
"""
