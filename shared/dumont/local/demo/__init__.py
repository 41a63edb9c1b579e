"""The demo: the main job from search to confirmed destruction, on a simulated market, with a report at its end."""
