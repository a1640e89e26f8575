"""What every page uses: the shared view with its link, and parts such as the job chip."""
