"""What is done with trained nets: separation, scores, leaderboard, exports."""
