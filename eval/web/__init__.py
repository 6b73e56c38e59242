"""A page that separates songs on the device of who opens it: assets/.

In it, signal.js is the signal processing, and worker.js runs that and the nets.

- page: writes its folder
- halves: TFLite files with weights in float16, which are half as long to download
"""
