"""The fence, the proof of quiet, and the migration's login: nobody else writes during the window."""
