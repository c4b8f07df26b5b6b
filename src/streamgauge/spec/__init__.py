"""The test file: read, checked, and turned into plain values.

`load.find_spec` and `load.load_spec` (or `load.from_url`) give a `Spec`; `resolve.resolve` makes of it, an environment
and `settings.Overrides` (the flags) what one test runs by. `presets` and `criteria` are plain data and load nothing
heavy; `load` and what stands above it need pydantic. Nothing is imported here, so that `--help` stays quick.
"""
