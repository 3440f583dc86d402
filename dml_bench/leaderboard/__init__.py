"""The published leaderboard: records that are checked, tables made of them alone, and rows that anybody re-runs."""
